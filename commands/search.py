"""`maquette search`: the pictures of an index that fit words or another picture."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..pipelines.picture_files import check_output, save_pictures
from .bars import print_lines, printable
from .interrupt import clean_up_on_interrupt
from .options import AsJson

SIDE = 192


def search(
    index: Annotated[Path, typer.Argument(help="An index that `maquette embed` made.")],
    query: Annotated[str, typer.Argument(help="Words such as 'a red boat', or a picture file.")],
    k: Annotated[int, typer.Option("-k", help="How many results.")] = 10,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw them side by side in this picture file.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The index's model, if it lies somewhere else now.", show_default="the index's"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find pictures by words, or by a picture that they resemble, and print the nearest first."""
    from ..clip.picture_sources import is_picture
    from ..search import PictureIndex

    found = PictureIndex.open(index, model)
    if sheet is not None:
        check_output(sheet)
    # Words do not end like a picture's file; a name that does, and is none, is a slip. Other names have to be there
    # (isfile, as Path.is_file raises for words longer than a name can be).
    by_picture = is_picture(query) or os.path.isfile(query)
    if not by_picture and os.path.basename(query) != query and os.path.isdir(query):
        raise ValueError(f"{query} is a folder; give words such as 'a red boat', or a picture file")
    words = query.encode("utf-8", "replace").decode()
    hits = found.search(Path(query) if by_picture else words, k)
    if as_json:
        results = [{"path": str(hit.path), "score": round(hit.score, 6)} for hit in hits]
        kind = "picture" if by_picture else "words"
        typer.echo(json.dumps({"query": words, "kind": kind, "results": results}, indent=1))
    else:
        typer.echo(f"nearest to the {'picture' if by_picture else 'words'} {words}:", err=True)
        _print_table(hits)
    if sheet is not None:
        picture = _sheet(hits)
        clean_up_on_interrupt()
        save_pictures([(sheet, picture, {"query": words})])
        typer.echo(sheet.resolve(), err=as_json)


def _print_table(hits: list[Any]) -> None:
    lines = [f"{n:>3}  {hit.score:6.3f}  {_short(hit.path)}" for n, hit in enumerate(hits, start=1)]
    print_lines([f"{'':3}  {'score':>6}  picture", *map(printable, lines)])


def _short(path: Path) -> Path:
    """The path from here, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _sheet(hits: list[Any]) -> Any:
    """The pictures in their order; those that are gone or damaged since they were embedded stay grey."""
    from PIL import Image, ImageOps

    from ..clip.preprocess import open_picture
    from ..toybox.sheet import contact_sheet

    tiles = []
    for hit in hits:
        try:
            tiles.append(ImageOps.contain(open_picture(hit.path), (SIDE, SIDE)))
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            typer.echo(f"not on the sheet: {hit.path}: {' '.join(str(error).split())}", err=True)
            tiles.append(Image.new("RGB", (SIDE, SIDE), "lightgray"))
    labels = [f"{hit.score:.3f} {printable(hit.path.name)}" for hit in hits]
    return contact_sheet(tiles, labels=labels)
