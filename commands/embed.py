"""`maquette embed`: an index of a folder's pictures, to be searched."""

from pathlib import Path
from typing import Annotated

import typer

from .bars import printable
from .interrupt import stoppable

SHOWN = 20


def embed(
    folder: Annotated[Path, typer.Argument(help="The folder; pictures below it are found as well.")],
    index: Annotated[Path, typer.Option(help="The index: a new file, or one made before.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A CLIP model's name, file or folder.", show_default="the index's; mini for a new one"
        ),
    ] = None,
) -> None:
    """Make the pictures in a folder searchable, or bring their index up to date.

    Only new and changed pictures are embedded. It can be stopped at any time and goes on where it was.
    """
    from ..search import PictureIndex

    found = PictureIndex.open(index, model)
    with stoppable(
        lambda _: f"stopped with {len(found):,} pictures in {index}; the same command goes on from there"
    ):
        update = found.update(folder, progress=True)
    for path, reason in update.skipped[:SHOWN]:
        typer.echo(f"skipped {printable(path)}: {printable(reason)}", err=True)
    if len(update.skipped) > SHOWN:
        typer.echo(f"… and {len(update.skipped) - SHOWN:,} more", err=True)
    typer.echo(f"{update}; {len(found):,} pictures in {index.resolve()}")
