"""`maquette toybox`: the toy world as data or as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from ..pipelines.picture_files import check_output, save_pictures
from .interrupt import clean_up_on_interrupt, shards_kept, stoppable


def toybox(
    split: Annotated[str, typer.Option(help="train, val or novel.")] = "train",
    count: Annotated[int | None, typer.Option(help="How many scenes.", show_default="40 on a sheet")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the shards.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Picture file: draw the scenes side by side instead.")
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels of a picture's side.")] = 64,
    things: Annotated[int | None, typer.Option(help="Only scenes with this many things, 1 or 2.")] = None,
    clouds: Annotated[bool, typer.Option("--clouds", help="Also sample each scene's point cloud.")] = False,
    distances: Annotated[
        bool, typer.Option("--distances", help="Also write signed distances from each scene's surface.")
    ] = False,
) -> None:
    """Write scenes of the toy world as training data, or look at them."""
    if things not in (None, 1, 2):
        raise ValueError(f"scenes have 1 or 2 things, not {things}")
    if sheet is not None and out is None:
        if things or clouds or distances:
            raise ValueError("--things, --clouds and --distances go with --out; leave them out")
        check_output(sheet)
        from ..toybox.sheet import scene_sheet

        picture = scene_sheet(split, 40 if count is None else count, size=size)
        clean_up_on_interrupt()
        save_pictures([(sheet, picture, {})])
        typer.echo(sheet.resolve())
    elif out is not None and sheet is None:
        if count is None:
            raise ValueError("say how many scenes to write: --count 1000")
        from ..toybox.shards import write_shards

        with stoppable(shards_kept(out)):
            written = write_shards(
                split, count, out, size=size, clouds=clouds, things=things, distances=distances
            )
        typer.echo(f"{len(written)} shards in {out.resolve()}")
    else:
        raise ValueError(
            "give either --out FOLDER for training data or --sheet FILE for a picture to look at"
        )
