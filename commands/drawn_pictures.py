"""Where the pictures go that a command draws, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..pipelines.picture_files import (
    SUFFIXES,
    check_output,
    free_name,
    named_by_seed,
    save_pictures,
    sheet_of,
)
from .interrupt import clean_up_on_interrupt

if TYPE_CHECKING:
    from ..pipelines.base import PictureOutput


def place_for(output: Path | None, name: str, suffixes: Sequence[str] = SUFFIXES) -> Callable[[], Path]:
    """A function that gives the file to write: `output`, or a new one in this folder that is called after `name`.

    The new one is chosen when it is first asked for. suffixes: what the file's name may end with; a new one has the
    first. Raises what `check_output` raises, at once.
    """
    check_output(output or Path.cwd() / f"picture{suffixes[0]}", suffixes)
    return cache(lambda: output or free_name(name, Path.cwd(), suffixes[0]))


def write_drawn(target: Callable[[], Path], made: PictureOutput, alone: bool, said: dict[str, str]) -> None:
    """Write pictures, the only one to `target` and others beside it, and say where they are.

    target: is called now, so that a name is free when it is taken. said: what their settings say besides.
    """
    clean_up_on_interrupt()
    place = target()
    settings = [{**each, **said} for each in made.settings]
    paths = [place if alone else named_by_seed(place, each) for each in settings]
    _say(save_pictures(list(zip(paths, made.images, settings, strict=True))))


def write_sheet(target: Path, made: PictureOutput, said: dict[str, str]) -> None:
    """Write a sheet of pictures to `target`, and say where it is."""
    _say(save_pictures([sheet_of(target, made.images, [{**each, **said} for each in made.settings])]))


def _say(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(path.resolve())
