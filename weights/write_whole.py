"""Files and folders that are whole or absent."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

# Beside a target, while it is written, lie .STEM.PROCESS.partial.SUFFIX and what was there before, .NAME.PROCESS.old
HIDDEN = re.compile(r"\.(.+)\.\d+\.(?:partial(\.[^.]+)?|old)")


def check_writable(target: str | os.PathLike) -> None:
    """Raises PermissionError if neither `target` nor the folders above it that are missing could be made."""
    parents = Path(target).absolute().parents
    above = next((place for place in parents if place.exists()), Path(target).anchor)
    try:
        tempfile.TemporaryDirectory(dir=above).cleanup()
    except OSError as error:
        raise PermissionError(
            f"the folder {above} cannot be written to ({error.strerror}); choose another one"
        ) from None


@contextmanager
def write_whole(target: str | os.PathLike) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to; at the end it is flushed to disk and takes target's place.

    If the block raises, or is interrupted, nothing of it is left and what was at `target` stays. The path has
    target's suffix. Raises the OSError of whatever cannot be written.
    """
    target = Path(target)
    beside = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield beside
        for path in [*beside.rglob("*"), beside]:
            _flush(path)
        if beside.is_dir() and target.is_dir():
            # Renamed before it is deleted: a kill in between leaves no folder that is half there.
            before = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(before)
            beside.rename(target)
            shutil.rmtree(before)
        else:
            beside.replace(target)
        _flush(target.parent)
    finally:
        _delete(beside)


def sweep(target: str | os.PathLike) -> None:
    """Delete what killed processes had begun to write to `target`, whose name may be a pattern such as step-*.

    Call it where nobody else can be writing to `target`.
    """
    target = Path(target)
    for path in target.parent.glob(".*"):
        hidden = HIDDEN.fullmatch(path.name)
        if hidden and fnmatchcase(hidden[1] + (hidden[2] or ""), target.name):
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt":
        return  # it flushes neither folders nor files that were opened for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
