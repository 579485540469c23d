"""Pictures as files: where they may go, what they are called, and that each is whole or absent."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from ..weights.write_whole import check_writable, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ANIMATED = (".gif", ".png", ".webp")
# Of each picture of an animation, in milliseconds.
DURATION = 250


def check_output(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """See that a picture can be written to `path`.

    Raises ValueError for a suffix that is none of these, and an OSError if its folder is missing or not writable.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file in it, such as {path / 'picture.png'}")
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} does not end like a picture; expected one of {', '.join(suffixes)}")
    if len(os.fsencode(path.name)) > 200:
        raise ValueError(f"the name {path.name[:20]}… is too long; give one of at most 200 bytes")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist; create it or choose another one")
    check_writable(path)


def free_name(prompt: str, folder: Path, suffix: str = ".png") -> Path:
    """A new file in `folder` called after the prompt, numbered from 2 on if there are such files already."""
    words = re.findall(r"\w+", prompt.lower())
    stem = ""
    for word in words:
        if len(longer := f"{stem}-{word}".strip("-")) > 40:
            break
        stem = longer
    stem = stem or (words[0][:40] if words else "picture")
    taken = {name.lower() for name in os.listdir(folder)}
    taken = {name.removesuffix(suffix) for name in taken if name.endswith(suffix)}
    number, name = 1, stem
    while any(other == name or other.startswith(f"{name}-seed") for other in taken):
        number += 1
        name = f"{stem}-{number}"
    return folder / f"{name}{suffix}"


def named_by_seed(target: Path, settings: Mapping[str, str]) -> Path:
    """Where one of several pictures or shapes lies that go to `target`; a -mesh.ply goes on being one."""
    *before, last = target.stem.split("-")
    mesh = target.suffix.lower() == ".ply" and last == "mesh"
    words = [*before, f"seed{settings['seed']}", last] if mesh else [target.stem, f"seed{settings['seed']}"]
    return target.with_name("-".join(words) + target.suffix)


def sheet_of(
    target: Path, pictures: Sequence[Image], settings: Sequence[Mapping[str, str]]
) -> tuple[Path, Image, Mapping[str, str]]:
    """(target, a contact sheet with the words and the seed under each picture, what they share) for `save_pictures`."""
    from ..toybox.sheet import contact_sheet, scale_of

    seeds = [int(each["seed"]) for each in settings]
    in_a_row = seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    said = f"{seeds[0]} to {seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    words = [shorten(each.get("prompt", ""), 80, placeholder=" …") for each in settings]
    labels = [f"{text} (seed={each['seed']})".strip() for text, each in zip(words, settings, strict=True)]
    sheet = contact_sheet(pictures, labels=labels, scale=scale_of(pictures[0].width))
    shared = {k: v for k, v in settings[0].items() if all(each.get(k) == v for each in settings)}
    return target, sheet, {**shared, "seed": said}


def save_pictures(pictures: Sequence[tuple[Path, Image, Mapping[str, str]]]) -> list[Path]:
    """Write all (path, picture, settings), or, if one cannot be, none; the settings become a PNG's text.

    Returns the paths.
    """
    with ExitStack() as stack:
        for path, picture, settings in pictures:
            beside = stack.enter_context(write_whole(path))
            beside.write_bytes(_encoded(picture, path.suffix.lower(), settings))
    return [path for path, *_ in pictures]


def save_animation(path: Path, pictures: Sequence[Image], settings: Mapping[str, str]) -> Path:
    """Write pictures, one after the other, as one that moves and begins again; the settings become a PNG's text.

    Returns the path.
    """
    first, *others = pictures
    moving = {"save_all": True, "append_images": others, "duration": DURATION, "loop": 0}
    suffix = path.suffix.lower()
    more = {"pnginfo": _text(settings)} if suffix == ".png" else {}
    content = io.BytesIO()
    first.save(content, suffix[1:], **moving, **more)
    with write_whole(path) as beside:
        beside.write_bytes(content.getvalue())
    return path


def _text(settings: Mapping[str, str]) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    for key, value in settings.items():
        text.add_itxt(key, value)
    return text


def _encoded(picture: Image, suffix: str, settings: Mapping[str, str]) -> bytes:
    content = io.BytesIO()
    if suffix == ".png":
        picture.save(content, "png", pnginfo=_text(settings))
    elif suffix == ".webp":
        picture.save(content, "webp", lossless=True)
    else:
        picture.save(content, "jpeg", quality=95)
    return content.getvalue()
