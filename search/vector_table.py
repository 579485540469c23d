"""Pictures and their vectors in one SQLite file: a batch is in it or is not, whatever ends the process.

Vectors are kept by the digest of a picture's content, so that moved, copied and swapped files keep theirs.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# In the header of the file: that it is ours ("mqix"), and the version of its tables.
_OURS, _FORMAT = 0x6D716978, 2
_TABLES = """
CREATE TABLE about (model TEXT, folder TEXT, place TEXT, fingerprint BLOB, seal INTEGER);
CREATE TABLE pictures (digest BLOB PRIMARY KEY, reason TEXT, vector BLOB, seal INTEGER);
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB, seal INTEGER);
CREATE INDEX files_of_digest ON files (digest);
"""


class About(NamedTuple):
    """The model's name, the pictures' folder (as seen from the index and by itself), and the model's fingerprint."""

    model: str
    folder: str
    place: str
    fingerprint: bytes


class Row(NamedTuple):
    """A file as it was when it was read; `digest` [16 bytes] names its content."""

    path: str
    size: int
    mtime_ns: int
    digest: bytes


class VectorTable:
    """Files, and vectors [D] of float32 and length 1 for their contents, or the reason why there is none.

    Created with `about` where nothing is at `path`. Every row ends with a checksum of it, its seal.
    Raises ValueError for a file that is no index of pictures, here, and later for a damaged row; and sqlite3's errors.
    """

    def __init__(self, path: Path, about: About | None = None):
        if path.exists():
            with path.open("rb") as file:
                if file.read(16) not in (b"", b"SQLite format 3\0"):
                    raise ValueError(f"{path} is no index of pictures; give one, or a new name")
        self._path = path
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._held: tuple[tuple[int, int], list[bytes], np.ndarray] | None = None
        try:
            self._open(about)
        except sqlite3.DatabaseError as error:
            error.add_note(f"in {path}: if it is damaged, delete it and make it again")
            raise

    def _open(self, about: About | None) -> None:
        """Make an empty file an index. Raises ValueError for a file that is none of ours, or damaged."""
        empty = not self._one("SELECT count(*) FROM sqlite_master")
        if empty and about is not None:
            with self._database:
                self._database.execute("BEGIN")
                self._database.execute(f"PRAGMA application_id = {_OURS}")
                self._database.execute(f"PRAGMA user_version = {_FORMAT}")
                for statement in _TABLES.strip().splitlines():
                    self._database.execute(statement)
                self._database.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", _sealed(about))
        elif self._one("PRAGMA application_id") != _OURS:
            raise ValueError(f"{self._path} is no index of pictures; give one, or a new name")
        elif self._one("PRAGMA user_version") != _FORMAT:
            raise ValueError(
                f"the index {self._path} was written by another version of maquette; make a new one"
            )
        elif self._one("PRAGMA integrity_check") != "ok":
            raise ValueError(self._damaged)

    @property
    def _damaged(self) -> str:
        return f"the index {self._path} is damaged; delete it and make it again"

    def _rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple]:
        """Whole rows without their seals. Raises ValueError for one that is not what was written."""
        for row in self._database.execute(query, values):
            if _sealed(row[:-1]) != row:
                raise ValueError(self._damaged)
            yield row[:-1]

    def _one(self, query: str):
        return self._database.execute(query).fetchone()[0]

    def about(self) -> About:
        row = next(self._rows("SELECT * FROM about"), None)
        if row is None:
            raise ValueError(self._damaged)
        return About(*row)

    def move(self, folder: str, place: str) -> None:
        """Say where the pictures lie now."""
        before = self.about()
        after = before._replace(folder=folder, place=place)
        if before != after:
            with self._database:
                self._database.execute("DELETE FROM about")
                self._database.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", _sealed(after))

    def files(self) -> dict[str, Row]:
        return {row[0]: Row(*row) for row in self._rows("SELECT * FROM files")}

    def reasons(self) -> dict[bytes, str | None]:
        """Every content that is known, and why it has no vector."""
        return {digest: reason for digest, reason, _ in self._rows("SELECT * FROM pictures")}

    def count(self) -> int:
        """The number of files with a vector."""
        return self._one("SELECT count(*) FROM files JOIN pictures USING (digest) WHERE reason IS NULL")

    def write(self, files: list[Row], vectors: dict[bytes, np.ndarray], broken: dict[bytes, str]) -> None:
        """Add or replace files, and by their digest the vectors of contents or the reasons for none; all or nothing."""
        rows = [(digest, None, vector.astype("<f4").tobytes()) for digest, vector in vectors.items()]
        rows += [(digest, reason, None) for digest, reason in broken.items()]
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?)", map(_sealed, rows)
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", map(_sealed, files)
            )

    def remove(self, paths: list[str]) -> None:
        """Take files out, and the contents that no file has."""
        with self._database:
            self._database.executemany("DELETE FROM files WHERE path = ?", ((path,) for path in paths))
            self._database.execute("DELETE FROM pictures WHERE digest NOT IN (SELECT digest FROM files)")

    def nearest(self, vector: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The `k` paths (all, if there are fewer) with the largest scalar products, best first; exact.

        All vectors are held in memory from the first search on, and read again when the file has changed.
        """
        digests, matrix = self._vectors()
        scores = matrix @ vector.astype(np.float32)
        best = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
        files = "SELECT * FROM files WHERE digest = ?"
        found = [(path, float(scores[i])) for i in best for path, *_ in self._rows(files, [digests[i]])]
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]

    def _vectors(self) -> tuple[list[bytes], np.ndarray]:
        # The first number changes when others write, the second when this object does.
        state = (self._one("PRAGMA data_version"), self._database.total_changes)
        if self._held is None or self._held[0] != state:
            self._held = None
            query = "SELECT * FROM pictures WHERE reason IS NULL AND digest IN (SELECT digest FROM files)"
            rows = [(digest, vector) for digest, _, vector in self._rows(query)]
            matrix = np.frombuffer(b"".join(vector for _, vector in rows), "<f4")
            self._held = (state, [digest for digest, _ in rows], matrix.reshape(len(rows), -1 if rows else 0))
        return self._held[1:]


def _sealed(row: Sequence[Any]) -> tuple:
    """A row and its CRC-32, so that a flipped bit on the disk is not taken for a vector or a name."""
    seal = 0
    for value in row:
        seal = zlib.crc32(value if isinstance(value, bytes) else repr(value).encode(), seal)
    return (*row, seal)
