"""The pictures in a folder and below it, as files: what they are called, how large and how old they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..clip.picture_sources import is_picture


class PictureFile(NamedTuple):
    """A file that is called like a picture: its path from the folder on, with "/", its bytes and its time."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Folder:
    """What `find_pictures` found; `unreadable` holds (path, reason) of files and folders that could not be seen."""

    folder: Path
    pictures: list[PictureFile] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def hides(self, path: str) -> bool:
        """Whether a path lies in a folder that could not be read, so that nobody knows if it is still there."""
        return any(path.startswith(f"{place}/") for place, _ in self.unreadable)


def find_pictures(folder: Path) -> Folder:
    """The pictures in a folder and its subfolders, in order of their paths.

    Links are followed, each folder once, so that a circle ends. Hidden files and folders are left out. Raises an
    OSError in one sentence if the folder is missing, is none, or cannot be read.
    """
    if not folder.exists():
        raise FileNotFoundError(f"the folder {folder} does not exist; give one with pictures")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; give the folder that it lies in")
    found = Folder(folder)
    for place, names in _folders(found):
        for name in filter(is_picture, names):
            path = os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")
            try:
                path.encode()
                status = os.stat(os.path.join(place, name))
            except UnicodeEncodeError:
                found.unreadable.append((_shown(path), "its name is not UTF-8; rename it"))
            except OSError as error:
                found.unreadable.append((path, error.strerror or str(error)))
            else:
                if stat.S_ISREG(status.st_mode):
                    found.pictures.append(PictureFile(path, status.st_size, status.st_mtime_ns))
    found.pictures.sort()
    return found


def _folders(found: Folder) -> Iterator[tuple[str, list[str]]]:
    """(folder, the names of its files) for the folder and all below it."""

    def failed(error: OSError) -> None:
        place = os.path.relpath(error.filename, found.folder)
        if place == ".":
            raise PermissionError(f"the folder {found.folder} cannot be read ({error.strerror})") from None
        found.unreadable.append((_shown(place.replace(os.sep, "/")), error.strerror or str(error)))

    seen = set()
    for place, folders, names in os.walk(found.folder, onerror=failed, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, names


def _shown(path: str) -> str:
    return path.encode("utf-8", "replace").decode()
