"""Sets of clouds where they lie: in a file, a folder, or shards."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...training.shards import Shards, tars_in
from ..point_cloud import SUFFIXES, PointCloud


@dataclass
class CloudSet:
    """Clouds by name, captions by the same names where there are any, and a sentence for each that was left out."""

    clouds: dict[str, PointCloud] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def read_clouds(path: str | os.PathLike) -> CloudSet:
    """The clouds of a .ply or .npz file, of a folder of them, or of shards, see Shards (samples with `npy`).

    Of a folder that has both the files are taken.

    A cloud is called like its file or sample; its caption lies in NAME.txt beside it. In a folder or shards what cannot
    be read is left out. Raises what `PointCloud.load` does for a file, and ValueError or FileNotFoundError where there
    are no clouds.
    """
    path = Path(path)
    braces = "{" in os.fspath(path) and not path.exists()
    if path.suffix.lower() == ".tar" or braces or (path.is_dir() and not clouds_in(path) and tars_in(path)):
        found = _read(_of_shards(path))
    elif path.is_dir():
        found = _read((file.stem, _caption_of(file), file) for file in clouds_in(path))
    else:
        return CloudSet({path.stem: PointCloud.load(path)}, _caption_of(path))
    if found.skipped and not found.clouds:
        raise ValueError(f"none of the clouds in {path} can be read: {found.skipped[0]}")
    if not found.clouds:
        raise FileNotFoundError(f"{path} holds no clouds ({', '.join(SUFFIXES)}, or samples with npy)")
    return found


def _read(sources: Iterator[tuple[str, dict[str, str], Path | bytes]]) -> CloudSet:
    found = CloudSet()
    for name, caption, source in sources:
        try:
            cloud = PointCloud.load(source) if isinstance(source, Path) else _of_bytes(source, name)
        except (ValueError, OSError) as error:
            found.skipped.append(str(error))
            continue
        if name in found.clouds:
            where = source if isinstance(source, Path) else "a sample"
            found.skipped.append(f"{where}: another cloud is called {name} as well")
            continue
        found.clouds[name] = cloud
        found.captions |= caption
    return found


def clouds_in(folder: Path) -> list[Path]:
    """The files of clouds that lie directly in a folder, by name."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def _of_shards(path: Path) -> Iterator[tuple[str, dict[str, str], Path | bytes]]:
    shards = Shards(path)
    for number, sample in enumerate(shards.samples):
        if "npy" in sample.parts:
            parts = shards[number]
            caption = {sample.key: parts["txt"].decode().strip()} if "txt" in parts else {}
            yield sample.key, caption, parts["npy"]


def _of_bytes(content: bytes, name: str) -> PointCloud:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.ndim != 2 or array.shape[1] != 6:
        raise ValueError(f"the cloud {name} has shape {array.shape}; expected [points, 6]")
    return PointCloud(array[:, :3], array[:, 3:])


def _caption_of(path: Path) -> dict[str, str]:
    words = path.with_suffix(".txt")
    return {path.stem: words.read_text(encoding="utf-8").strip()} if words.is_file() else {}
