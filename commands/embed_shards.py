"""`maquette embed-shards`: CLIP's vectors of pictures, for training unCLIP."""

from pathlib import Path
from typing import Annotated

import typer

from .interrupt import shards_kept, stoppable
from .options import ClipName


def embed_shards(
    data: Annotated[str, typer.Argument(help="A folder of shards, or 'data/{first,second}'.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards with vectors.")],
    model: ClipName = "mini",
) -> None:
    """Copy shards and add CLIP's vector of each picture, so that training unCLIP need not compute it.

    It can be stopped at any time; the same command keeps the shards that are written and goes on.
    """
    from ..unclip.training.embed_shards import embed_shards as write

    with stoppable(shards_kept(out)):
        paths = write(data, out, model)
    typer.echo(f"{len(paths):,} shards in {out.resolve()}")
