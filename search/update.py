"""Bringing an index of pictures up to date with its folder: only new content is embedded, in batches that stay."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .picture_folder import PictureFile
from .vector_table import Row, VectorTable

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip.model import ClipModel

# A batch is written when it holds so many pictures for the network, or so many files.
_PICTURES, _FILES = 64, 1000


@dataclass
class Update:
    """What an update did, in numbers of pictures, and (path, reason) of all that are not in the index.

    `moved` were found under another name, and `embedded` counts those that the network looked at.
    """

    new: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    embedded: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        moved = f"{self.moved:,} moved, " if self.moved else ""
        return (
            f"{self.new:,} new, {self.changed:,} changed, {moved}{self.unchanged:,} unchanged, "
            f"{self.removed:,} removed, {len(self.skipped):,} skipped"
        )


def update_table(
    table: VectorTable,
    folder: Path,
    found: list[PictureFile],
    unreadable: dict[str, str],
    model: Callable[[], ClipModel],
    progress: bool,
) -> Update:
    """Make `table` hold what `find_pictures` found in `folder`; `model` gives the model when it is first needed."""
    from tqdm import tqdm

    before, reasons = table.files(), table.reasons()
    now = {file.path: before.get(file.path) for file in found}
    # Of two updates at the same time one may have removed a content that the other counted on.
    known = {row[:3] for row in before.values() if row.digest in reasons}
    unknown = [file for file in found if file not in known]
    embedded = 0
    with tqdm(unknown, disable=not (progress and unknown), unit="picture") as bar:
        for files, pictures, broken in _batches(bar, folder, reasons, model, unreadable):
            vectors = model().embed_images(list(pictures.values())).float().numpy() if pictures else []
            embedded += len(vectors)
            good = dict(zip(pictures, vectors, strict=True))
            for digest in [digest for digest, vector in good.items() if not np.isfinite(vector).all()]:
                del good[digest]
                broken[digest] = "the model finds no finite vector for it"
            table.write(files, good, broken)
            reasons |= dict.fromkeys(good) | broken
            now.update((row.path, row) for row in files)

    # What lies in a folder that could not be read may still be there.
    hidden = tuple(f"{place}/" for place in unreadable)
    gone = [row for path, row in before.items() if path not in now and not path.startswith(hidden)]
    table.remove([row.path for row in gone])
    # A file that could not be read this time keeps its row of before.
    there = [row for path, row in now.items() if row is not None and path not in unreadable]
    skipped = unreadable | {row.path: reason for row in there if (reason := reasons[row.digest]) is not None}
    report = Update(embedded=embedded, skipped=sorted(skipped.items()))
    left = Counter(row.digest for row in gone)
    for row in there:
        old = before.get(row.path)
        if row.path in skipped:
            continue
        if old is not None and old.digest == row.digest:
            report.unchanged += 1
        elif old is not None:
            report.changed += 1
        elif left[row.digest]:
            left[row.digest] -= 1
            report.moved += 1
        else:
            report.new += 1
    report.removed = sum(left.values())
    return report


def _batches(
    found: Iterable[PictureFile],
    folder: Path,
    reasons: dict[bytes, str | None],
    model: Callable[[], ClipModel],
    unreadable: dict[str, str],
) -> Iterator[tuple[list[Row], dict[bytes, Image], dict[bytes, str]]]:
    """Files, and by digest the pictures and the reasons of broken ones, for contents that are not in `reasons` yet."""
    from ..clip.picture_sources import try_open

    files, pictures, broken = [], {}, {}
    for file in found:
        try:
            content = (folder / file.path).read_bytes()
        except OSError as error:
            unreadable[file.path] = error.strerror or str(error)
            continue
        digest = hashlib.blake2b(content, digest_size=16).digest()
        files.append(Row(*file, digest))
        if not any(digest in known for known in (reasons, pictures, broken)):
            picture = try_open(content)
            if isinstance(picture, str):
                broken[digest] = picture
            else:
                # Made as small as the network sees it: a batch of photographs would fill the memory.
                pictures[digest] = model().preprocess.fit(picture)
        if len(pictures) == _PICTURES or len(files) == _FILES:
            yield files, pictures, broken
            files, pictures, broken = [], {}, {}
    if files:
        yield files, pictures, broken
