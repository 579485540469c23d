"""Bringing an index of pictures up to date with its folder: only what changed is embedded, in batches that stay."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .picture_folder import Folder, PictureFile
from .vector_table import Row, VectorTable

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..clip.model import ClipModel

# Pictures that go through the network together, and rows or seconds after which they are written.
_CHUNK = 64
_BATCH, _SECONDS = 256, 20.0


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


class Updating:
    """One run of `PictureIndex.update`; `model` gives the model when it is first needed."""

    def __init__(self, table: VectorTable, found: Folder, model: Callable[[], ClipModel], progress: bool):
        self.table, self.found, self.model, self.progress = table, found, model, progress
        self.rows = {row.path: row for row in table.rows()}
        self.same = {row.digest: row for row in self.rows.values()}
        there = {file.path for file in found.pictures}
        self.gone = {path for path in self.rows if path not in there and not found.hides(path)}
        self.moved: set[str] = set()
        self.pending: list[tuple[Row, np.ndarray | None]] = []
        self.written = time.monotonic()
        self.report = Update(skipped=list(found.unreadable))

    def run(self) -> Update:
        from tqdm import tqdm

        unknown = []
        for file in self.found.pictures:
            row = self.rows.get(file.path)
            if row is None or (row.size, row.mtime_ns) != (file.size, file.mtime_ns):
                unknown.append(file)
            elif row.reason is None:
                self.report.unchanged += 1
            else:
                self.report.skipped.append((row.path, row.reason))
        try:
            with tqdm(total=len(unknown), disable=not (self.progress and unknown), unit="picture") as bar:
                for start in range(0, len(unknown), _CHUNK):
                    self._take(unknown[start : start + _CHUNK], bar)
                    if len(self.pending) >= _BATCH or time.monotonic() - self.written > _SECONDS:
                        self._write()
        finally:
            # Also when it is interrupted: what has been looked at is kept.
            self._write()
        self.table.remove(sorted(self.gone))
        self.report.moved = len(self.moved)
        self.report.removed = len(self.gone) - len(self.moved)
        with contextlib.suppress(OSError):
            self.table.tidy()  # the index is complete without it; it needs some room on the disk
        self.report.skipped.sort()
        return self.report

    def _write(self) -> None:
        rows, self.pending = self.pending, []
        self.table.write(rows)
        self.rows.update({row.path: row for row, _ in rows})
        self.same.update({row.digest: row for row, _ in rows})
        self.written = time.monotonic()

    def _take(self, files: Sequence[PictureFile], bar: Any) -> None:
        """Put the rows of some new or changed files in line."""
        fresh: list[Row] = []
        again: list[tuple[Row, Row]] = []
        for file in files:
            try:
                row = Row(file.path, file.size, file.mtime_ns, _digest(self.found.folder / file.path), None)
            except OSError as error:
                self._skip(file.path, error.strerror or str(error))
                bar.update()
                continue
            if (old := self._known(row.digest)) is None:
                fresh.append(row)
            else:
                again.append((row._replace(reason=old.reason), old))
                bar.update()
        vectors = self.table.vectors([old.path for _, old in again if old.reason is None])
        for row, old in again:
            self._keep(row, vectors.get(old.path), old)
        self._embed(fresh, bar)

    def _known(self, digest: bytes) -> Row | None:
        """A row of this content that is in the table now: where names were swapped, this run may have replaced it."""
        old = self.same.get(digest)
        return old if old is not None and self.rows[old.path].digest == digest else None

    def _embed(self, rows: list[Row], bar: Any) -> None:
        if not rows:
            return
        readable: list[Row] = []
        folder = self.found.folder
        model = self.model()

        def pictures() -> Iterator[Image]:
            for row in rows:
                bar.update()
                try:
                    # Made as small as the network sees it: a batch of photographs would fill the memory.
                    picture = model.preprocess.fit(opened(folder / row.path))
                except ValueError as error:
                    reason = str(error).removeprefix(f"{folder / row.path} ").removeprefix("is ")
                    self._keep(row._replace(reason=reason), None, None)
                except OSError as error:
                    # The disk's and not the picture's fault, so it is tried again next time.
                    self._skip(row.path, error.strerror or str(error))
                else:
                    readable.append(row)
                    yield picture

        # The pictures are opened one by one as the network takes them.
        vectors = model.embed_images(pictures(), batch_size=_CHUNK // 2).float().numpy()
        self.report.embedded += len(readable)
        for row, vector in zip(readable, vectors, strict=True):
            self._keep(row, vector, None)

    def _keep(self, row: Row, vector: np.ndarray | None, same: Row | None) -> None:
        """Count a row and put it in line; `same` is the one its vector came from, if it was not embedded."""
        if vector is not None and not np.isfinite(vector).all():
            row, vector = row._replace(reason="the model finds no finite vector for it"), None
        if row.reason is not None:
            self.report.skipped.append((row.path, row.reason))
        elif (old := self.rows.get(row.path)) is not None:
            self.report.unchanged += old.digest == row.digest
            self.report.changed += old.digest != row.digest
        elif same is not None and same.path in self.gone - self.moved:
            self.moved.add(same.path)
        else:
            self.report.new += 1
        self.pending.append((row, vector))

    def _skip(self, path: str, reason: str) -> None:
        self.report.skipped.append((path, reason))


def opened(path: Path) -> Image:
    """The picture, as `open_picture` has it."""
    from ..clip.preprocess import open_picture

    return open_picture(path)


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()
