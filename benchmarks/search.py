"""Milliseconds of an exact search among 100,000 vectors.

    python benchmarks/search.py [--count 100000] [--queries 20]

Vectors of length 1, random and in a hundred clusters, of the widths of mini (256), ViT-B (512) and ViT-L (768).
Recall@10 is against the exact products in float64. `first` is a first search, which reads the vectors from the disk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from maquette.search.vector_table import About, Row, VectorTable
from rich.console import Console
from rich.table import Table

K = 10


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make(kind, n, dim, draw):
    vectors = draw.standard_normal((n, dim), dtype=np.float32)
    if kind == "clustered":
        centres = draw.standard_normal((100, dim), dtype=np.float32) * 2
        vectors += centres[draw.integers(0, len(centres), n)]
    return unit(vectors)


def fill(table, vectors):
    """Write the vectors in batches; picture i is called i."""
    for start in range(0, len(vectors), 5000):
        some = range(start, min(start + 5000, len(vectors)))
        digests = [i.to_bytes(16, "big") for i in some]
        files = [Row(str(i), 0, 0, digest) for i, digest in zip(some, digests, strict=True)]
        table.write(files, dict(zip(digests, vectors[some.start : some.stop], strict=True)), {})


def timed(search, queries, exact):
    """Milliseconds of each search after two to warm up, and recall@10."""
    times, found = [], 0
    for query in queries[:2]:
        search(query, K)
    for query, truth in zip(queries, exact, strict=True):
        start = time.perf_counter()
        hits = search(query, K)
        times.append(1000 * (time.perf_counter() - start))
        found += len({int(path) for path, _ in hits} & set(truth))
    return np.array(times), found / exact.size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    rows = Table("vectors", "dim", "first", "p50", "p95", "recall@10")
    for kind in ("random", "clustered"):
        for dim in (256, 512, 768):
            draw = np.random.default_rng(dim)
            vectors = make(kind, options.count + options.queries, dim, draw)
            vectors, queries = vectors[: options.count], vectors[options.count :]
            exact = np.argsort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)))[:, :K]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "index"
                fill(VectorTable(path, About("", "", "", b"")), vectors)
                table = VectorTable(path)
                start = time.perf_counter()
                table.nearest(queries[0], K)
                first = 1000 * (time.perf_counter() - start)
                times, recall = timed(table.nearest, queries, exact)
                cells = [*(f"{np.percentile(times, p):.1f} ms" for p in (50, 95)), f"{recall:.3f}"]
            rows.add_row(kind, str(dim), f"{first:.0f} ms", *cells)
    Console().print(f"{options.count:,} vectors, {options.queries} searches", rows)


if __name__ == "__main__":
    main()
