"""`maquette clouds`: meshes of one's own as data for training Point-E."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .interrupt import shards_kept, stoppable


class Axis(StrEnum):
    """What points up in a file."""

    Y = "y"
    Z = "z"


def clouds(
    folder: Annotated[
        Path, typer.Argument(help="Meshes (.glb, .gltf, .obj, .ply, .stl), also in folders below.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    views: Annotated[int, typer.Option(help="From how many sides each mesh is seen.")] = 4,
    size: Annotated[int, typer.Option(help="Pixels of a picture's side.")] = 256,
    up: Annotated[
        Axis | None, typer.Option(help="Which axis points up.", show_default="z in .ply and .stl, else y")
    ] = None,
) -> None:
    """Write meshes as pictures, point clouds and distances from the surface, which Point-E's stages learn from.

    A caption is what NAME.txt beside NAME.glb says, or else the name. Meshes that cannot be read are left out and
    reported. It can be stopped at any time; the same command keeps the shards that are written and goes on.
    """
    from ..point_e.training.mesh_shards import write_mesh_shards

    with stoppable(shards_kept(out)):
        paths, left_out = write_mesh_shards(folder, out, views, size, up.value if up else None)
    typer.echo(f"{len(paths):,} shards in {out.resolve()}")
    for sentence in left_out:
        typer.echo(f"left out: {sentence}", err=True)
