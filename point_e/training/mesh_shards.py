"""Meshes of one's own as data for Point-E's stages: turned, drawn, and sampled as clouds, in shards."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ...toybox.meshes import UP, caption_file, try_samples_of
from ...toybox.renderer import checked_size
from ...toybox.workers import worker_map
from ...training.shards import add_sample
from ...weights.checksums import sha256_of
from ...weights.write_whole import write_whole

MADE_OF = "made-of.json"
MESHES_PER_SHARD = 250


def write_mesh_shards(
    folder: Path,
    out: Path,
    views: int = 4,
    size: int = 256,
    up: str | None = None,
) -> tuple[list[Path], list[str]]:
    """Write the meshes below `folder` as `out/shard-00000.tar` …, 250 meshes each, and return what became of them.

    See `samples_of` for what a sample holds, and for `views`, `size` and `up`. Shards that are there are kept, so that
    a stopped call can be made again; each is whole or absent, and `out/made-of.json` says of what, and how, they are
    made.
    Returns the shards' paths, and a sentence for every mesh that was left out because it cannot be read.
    Raises OSError where one of the folders is none or `out` has shards of other meshes or made in another way,
    ValueError where there are no meshes or none can be read.
    """
    checked_size(size)
    if views < 1:
        raise ValueError(f"each mesh is seen at least once, not {views} times")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds your meshes")
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder for the shards")
    meshes = sorted(path for path in folder.rglob("*") if path.suffix.lower() in UP and path.is_file())
    if not meshes:
        raise ValueError(f"{folder} holds no meshes ({', '.join(UP)})")
    parts = [meshes[first : first + MESHES_PER_SHARD] for first in range(0, len(meshes), MESHES_PER_SHARD)]
    paths = [out / f"shard-{number:05d}.tar" for number in range(len(parts))]
    contents = {
        path.relative_to(folder).as_posix(): [
            sha256_of(some) for some in (path, caption_file(path)) if some.is_file()
        ]
        for path in tqdm(meshes, unit="mesh", desc="reading")
    }
    made_of = json.dumps({"views": views, "size": size, "up": up, "meshes": contents}, indent=1)
    if any(path.exists() for path in paths) and not _is_noted(out, made_of):
        raise FileExistsError(
            f"the shards in {out} are of other meshes, or were made in another way; give a new folder with --out"
        )
    keys = {path: f"{number:06d}" for number, path in enumerate(meshes)}
    attempt = partial(try_samples_of, views=views, size=size, up=up)
    left_out: list[str] = []
    with worker_map(os.cpu_count() or 1) as map_in_workers, tqdm(total=len(meshes), unit="mesh") as bar:
        for path, some in zip(paths, parts, strict=True):
            if not path.exists():
                found = map_in_workers(attempt, some, [keys[mesh] for mesh in some])
                _write(path, _good(found, bar, left_out), made_of)
            else:
                bar.update(len(some))
    paths = [path for path in paths if path.exists()]
    if not paths:
        raise ValueError(f"none of the {len(meshes):,} meshes in {folder} can be read; first: {left_out[0]}")
    return paths, left_out


def _is_noted(out: Path, made_of: str) -> bool:
    note = out / MADE_OF
    return note.is_file() and note.read_text(encoding="utf-8") == made_of


def _good(
    found: Iterator[tuple[str, list[dict[str, bytes]] | str]], bar: tqdm, left_out: list[str]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys and samples of the meshes that can be read."""
    for key, samples in found:
        bar.update()
        if isinstance(samples, str):
            left_out.append(samples)
        else:
            yield from ((f"{key}-{view:02d}", parts) for view, parts in enumerate(samples))


def _write(path: Path, samples: Iterator[tuple[str, dict[str, bytes]]], made_of: str) -> None:
    """One shard, unless it would be empty, and before the first one what all are made of."""
    first = next(samples, None)
    if first is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _is_noted(path.parent, made_of):
        with write_whole(path.parent / MADE_OF) as beside:
            beside.write_text(made_of, encoding="utf-8")
    with write_whole(path) as beside, tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, parts in chain([first], samples):
            add_sample(tar, key, parts)
