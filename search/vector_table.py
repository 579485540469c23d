"""Files and their vectors in an embedded database (LanceDB): written in whole batches, searched exactly.

LanceDB keeps the rows: a batch is in the table or is not, whatever ends the process, and readers see whole states.
Its own scan of 100,000 vectors takes longer on two cores than multiplying them in memory (benchmarks/search.py),
so up to `IN_MEMORY` bytes the vectors are held here, and more than that are searched by LanceDB on the disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "maquette_vectors"
IN_MEMORY = 2 * 1024**3
_FRAGMENTS = 16
_READABLE = "reason IS NULL"
# What LanceDB says of files that are gone or hold something else; of anything else nobody is told to delete them.
_DAMAGE = re.compile(
    r"No such file|not found|corrupt|failed to (decode|fill)|too small|invalid (range|seek|magic)"
    r"|outside (of file|metadata)|(Parser|Ipc) error",
    re.IGNORECASE,
)


class Row(NamedTuple):
    """A file as it was when it was embedded. `reason` says why it has no vector (its place then holds zeros)."""

    path: str
    size: int
    mtime_ns: int
    digest: bytes
    reason: str | None


class VectorTable:
    """Rows with unique paths and vectors [dim] of float32 and length 1, in the folder `place`.

    Raises ImportError without LanceDB, ValueError in one sentence for a damaged table, OSError for a full disk and
    the like, MemoryError. Only one process at a time may write; the caller sees to it.
    """

    def __init__(self, place: Path, dim: int, create: bool = False):
        self.place, self.dim = place, dim
        lancedb = need_lancedb()
        with self._errors():
            database = lancedb.connect(str(place))
            if create:
                self._table = database.create_table(NAME, schema=_schema(dim))
            else:
                self._table = database.open_table(NAME)
        if self._table.schema.names != _schema(dim).names or self._table.schema != _schema(dim):
            raise self._damaged("its columns are not an index's")
        self._held: tuple[int, pa.Array, np.ndarray] | None = None

    def rows(self) -> list[Row]:
        """All rows, without their vectors."""
        read = self._read(Row._fields).to_pydict()
        return [Row(*values) for values in zip(*(read[name] for name in Row._fields), strict=True)]

    def count(self) -> int:
        """The number of rows with a vector."""
        with self._errors():
            self._table.checkout_latest()
            return self._table.count_rows(_READABLE)

    def vectors(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of these paths, as far as they have one."""
        if not paths:
            return {}
        read = self._read(["path", "vector"], f"{_READABLE} AND {_among(paths)}")
        return dict(zip(read["path"].to_pylist(), self._matrix(read), strict=True))

    def write(self, rows: Sequence[tuple[Row, np.ndarray | None]]) -> None:
        """Add rows or replace those of the same paths, all of them or none."""
        import pyarrow as pa

        if not rows:
            return
        columns: dict[str, Any] = {name: [getattr(row, name) for row, _ in rows] for name in Row._fields}
        matrix = np.stack(
            [np.zeros(self.dim, np.float32) if vector is None else vector for _, vector in rows]
        )
        columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), self.dim)
        batch = pa.table(columns, schema=_schema(self.dim))
        with self._errors():
            merge = self._table.merge_insert("path").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(batch)

    def remove(self, paths: Sequence[str]) -> None:
        """Take rows out; paths that are not there are no error."""
        with self._errors():
            for start in range(0, len(paths), 2000):
                self._table.delete(_among(paths[start : start + 2000]))

    def tidy(self) -> None:
        """Join many small files into a few and drop what they held before."""
        with self._errors(), warnings.catch_warnings():
            # It warns that readers of the old state fail; ours then read again.
            warnings.simplefilter("ignore")
            if self._table.stats()["fragment_stats"]["num_fragments"] > _FRAGMENTS:
                self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def nearest(self, vector: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The `k` paths (all, if there are fewer) with the largest scalar products, best first; exact."""
        with self._errors():
            self._table.checkout_latest()
            version = self._table.version
        if self._held is None or self._held[0] != version:
            self._held = None
            if self.count() * self.dim * 4 > IN_MEMORY:
                return self.nearest_on_disk(vector, k)
            read = self._read(["path", "vector"], _READABLE)
            matrix = self._matrix(read)
            # LanceDB keeps no checksums; this much it costs nothing to see.
            if len(matrix) and not np.all(np.abs(np.einsum("nd,nd->n", matrix, matrix) - 1) < 0.05):
                raise self._damaged("it holds vectors that are not of length 1")
            self._held = (version, read["path"].combine_chunks(), matrix)
        _, paths, matrix = self._held
        scores = matrix @ vector.astype(np.float32)
        best = np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
        found = zip(paths.take(best).to_pylist(), scores[best].tolist(), strict=True)
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def nearest_on_disk(self, vector: np.ndarray, k: int) -> list[tuple[str, float]]:
        """The same by LanceDB's scan, which holds nothing in memory; exact as well."""
        with self._errors():
            search = self._table.search(vector.astype(np.float32), vector_column_name="vector")
            search = search.distance_type("dot").where(_READABLE, prefilter=True)
            read = search.select(["path", "_distance"]).limit(k).to_arrow()
        scores = [1 - distance for distance in read["_distance"].to_pylist()]
        return list(zip(read["path"].to_pylist(), scores, strict=True))

    def _read(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Columns of the newest state; once more if `tidy` in another process took its files away meanwhile."""
        for attempt in range(2):
            try:
                with self._errors():
                    self._table.checkout_latest()
                    search = self._table.search().select(list(columns))
                    return (search.where(where) if where else search).to_arrow()
            except ValueError:
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def _matrix(self, read: pa.Table) -> np.ndarray:
        matrix = np.empty((read.num_rows, self.dim), np.float32)
        row = 0
        for chunk in read["vector"].chunks:
            matrix[row : row + len(chunk)] = chunk.flatten().to_numpy().reshape(-1, self.dim)
            row += len(chunk)
        return matrix

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """LanceDB tells of everything by RuntimeError or ValueError, and a panic inside is no Exception at all."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException as error:
            code = re.search(r"os error (\d+)", str(error))
            number = int(code[1]) if code else getattr(error, "errno", None)
            said = os.strerror(number) if number else f"{type(error).__name__}: {error}"
            # Not in the paths in it, which may be called anything.
            if isinstance(error, FileNotFoundError) or _DAMAGE.search(re.sub(r"\S*/\S*", "", said)):
                raise self._damaged(str(error)) from None
            do = "try again, and make another index if that does not help"
            if number:
                do = "what it held is still there; mend that and try again"
            raise OSError(f"the index {self.place} cannot be used ({_short(said)}); {do}") from None

    def _damaged(self, why: str) -> ValueError:
        return ValueError(
            f"the index {self.place} is damaged ({_short(why)}); delete it and embed the pictures again"
        )


def _schema(dim: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("digest", pa.binary()),
            ("reason", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )


def _short(why: str) -> str:
    """LanceDB's sentence without the place in its source and the rest."""
    return re.split(r"[,;:] /|\n", why.replace("lance error: ", ""))[0][:160]


def _among(paths: Sequence[str]) -> str:
    return "path IN ({})".format(", ".join("'" + path.replace("'", "''") + "'" for path in paths))


def need_lancedb() -> Any:
    """LanceDB, or ImportError with the command that installs it."""
    try:
        # It warns on standard error of what is nothing to the user.
        os.environ.setdefault("LANCEDB_LOG", "error")
        import lancedb
    except ImportError:
        raise ImportError(
            "searching pictures needs LanceDB; install it with: pip install 'maquette[search]'"
        ) from None
    return lancedb
