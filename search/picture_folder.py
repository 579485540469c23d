"""The pictures in a folder and below it, as files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from ..clip.picture_sources import is_picture


class PictureFile(NamedTuple):
    """A file that is called like a picture: its path from the folder on, with "/", its bytes and its time."""

    path: str
    size: int
    mtime_ns: int


def find_pictures(folder: Path) -> tuple[list[PictureFile], dict[str, str]]:
    """The pictures in a folder and below, by path; and path -> reason of files and folders that cannot be read.

    Links are followed, each folder once, so that a circle ends. Hidden files and folders are left out.
    Raises an OSError if the folder itself is missing or cannot be read.
    """
    pictures: list[PictureFile] = []
    unreadable: dict[str, str] = {}
    seen = set()

    def failed(error: OSError) -> None:
        path = os.path.relpath(error.filename, folder).replace(os.sep, "/")
        unreadable[path.encode("utf-8", "replace").decode()] = error.strerror or str(error)

    os.scandir(folder).close()  # os.walk passes over a folder that it cannot read
    for place, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = (name for name in folders if not name.startswith("."))
        for file in (os.path.join(place, name) for name in names if is_picture(name)):
            path = os.path.relpath(file, folder).replace(os.sep, "/")
            try:
                path.encode()
                status = os.stat(file)
            except UnicodeEncodeError:
                unreadable[path.encode("utf-8", "replace").decode()] = "its name is not UTF-8; rename it"
            except OSError as error:
                failed(error)
            else:
                if stat.S_ISREG(status.st_mode):
                    pictures.append(PictureFile(path, status.st_size, status.st_mtime_ns))
    return sorted(pictures), unreadable
