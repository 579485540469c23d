"""Pictures as files: where they may go, what they are called, and that each is whole or absent."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_output(path: Path) -> None:
    """See that a picture can be written to `path`.

    Raises ValueError for a suffix that is no picture's, and an OSError if its folder is missing or not writable.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file in it, such as {path / 'picture.png'}")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} does not end like a picture; expected one of {', '.join(SUFFIXES)}")
    if len(os.fsencode(path.name)) > 200:
        raise ValueError(f"the name {path.name[:20]}… is too long; give one of at most 200 bytes")
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist; create it or choose another one")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"the folder {folder} cannot be written to ({error.strerror}); choose another one"
        ) from None


def free_name(prompt: str, folder: Path) -> Path:
    """A new PNG in `folder` called after the prompt, numbered from 2 on if there are such pictures already."""
    words = re.findall(r"\w+", prompt.lower())
    stem = ""
    for word in words:
        if len(longer := f"{stem}-{word}".strip("-")) > 40:
            break
        stem = longer
    stem = stem or (words[0][:40] if words else "picture")
    taken = {name.lower() for name in os.listdir(folder)}
    number, name = 1, stem
    while any(other.startswith((f"{name}.", f"{name}-seed")) for other in taken):
        number += 1
        name = f"{stem}-{number}"
    return folder / f"{name}.png"


def save_pictures(pictures: Sequence[tuple[Path, Image, Mapping[str, str]]]) -> None:
    """Write all (path, picture, settings), or none of them; the settings become a PNG's text.

    Raises OSError in one sentence, such as for a full disk, and then leaves no file of its own behind.
    """
    written: list[tuple[Path, Path]] = []
    try:
        for path, picture, settings in pictures:
            beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
            written.append((beside, path))
            beside.write_bytes(_encoded(picture, path.suffix.lower(), settings))
        for beside, path in written:
            beside.replace(path)
    except OSError as error:
        folder = pictures[0][0].parent.resolve()
        raise OSError(
            f"the picture cannot be written to {folder} ({error.strerror}); make room there or choose another folder"
        ) from None
    finally:
        for beside, _ in written:
            beside.unlink(missing_ok=True)


def _encoded(picture: Image, suffix: str, settings: Mapping[str, str]) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    content = io.BytesIO()
    if suffix == ".png":
        text = PngInfo()
        for key, value in settings.items():
            text.add_itxt(key, value)
        picture.save(content, "png", pnginfo=text)
    else:
        picture.save(content, {".webp": "webp"}.get(suffix, "jpeg"), quality=95)
    return content.getvalue()
