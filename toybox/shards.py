"""Toybox as webdataset shards: tars of 1,000 scenes, rendered on all cores, whole or absent.

Every byte depends on the arguments alone, so shards already there are recognised by their content and kept.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..weights.noted import noted
from ..weights.write_whole import write_whole
from .renderer import render
from .scenes import make_scene, true_captions
from .workers import worker_map

SCENES_PER_SHARD = 1000
SCENES_A_PROCESS = 100  # that are worth starting one, which takes a second
EXTRAS = {"clouds": "npy", "distances": "distances.npy"}


@dataclass(frozen=True)
class Shard:
    """One tar to be: scenes `first` … `last - 1` of a split, or those of so many `things` only, at `path`."""

    path: Path
    split: str
    first: int
    last: int
    size: int
    clouds: bool
    things: int | None = None
    distances: bool = False

    @cached_property
    def scenes(self) -> Sequence[int]:
        """The indices of its scenes."""
        if self.things is None:
            return range(self.first, self.last)
        return [
            i for i in range(self.first, self.last) if len(make_scene(self.split, i).objects) == self.things
        ]

    def words(self, index: int) -> dict[str, bytes]:
        """The parts of a sample that are not drawn: `txt` and `captions.txt`, and `json` (attributes)."""
        scene = make_scene(self.split, index)
        attributes = json.dumps(scene.attributes(), sort_keys=True)
        captions = "\n".join(true_captions(scene))
        return {"txt": scene.caption.encode(), "captions.txt": captions.encode(), "json": attributes.encode()}

    def sample(self, index: int) -> dict[str, bytes]:
        """A whole sample: `png`, `txt`, `captions.txt`, `json` and, if asked for, `npy`, `distances.npy` (float16)."""
        scene = make_scene(self.split, index)
        png = io.BytesIO()
        Image.fromarray(render(scene, size=self.size)).save(png, format="png", compress_level=1)
        files = {"png": png.getvalue(), **self.words(index)}
        if self.clouds:
            files[EXTRAS["clouds"]] = in_half(scene.cloud())
        if self.distances:
            files[EXTRAS["distances"]] = in_half(scene.distances())
        return files

    def is_written(self) -> bool:
        """Whether the whole shard is at `path`; a shorter one of the same scenes counts as absent.

        Raises FileExistsError if the file there holds other scenes, and ValueError if it is damaged.
        """
        from ..training.shards import SUM, Shards

        if not self.path.exists():
            return False
        with noted("delete it and do this again", ValueError):
            found = Shards([self.path])
        sample = found[0]
        extras = [name for name in EXTRAS if getattr(self, name)]
        kinds = {"png", "txt", "captions.txt", "json", SUM, *(EXTRAS[name] for name in extras)}
        keys = [each.key for each in found.samples]
        expected = [f"{self.split}-{index:08d}" for index in self.scenes]
        if self.things is None:  # a shard of more scenes will do
            keys = keys[: len(expected)]
        same = keys == expected[: len(keys)] and found.samples[0].parts.keys() == kinds
        same = same and Image.open(io.BytesIO(sample["png"])).size == (self.size, self.size)
        # Not the picture itself: another machine may round a pixel differently.
        same = same and all(sample[kind] == text for kind, text in self.words(self.scenes[0]).items())
        if not same:
            raise FileExistsError(
                f"{self.path} does not hold {self.split} scenes from {self.first} on at "
                f"{self.size} px{f' of {self.things} things' if self.things else ''}, with "
                f"{' and '.join(extras) or 'neither clouds nor distances'}; give another output folder or delete its "
                "shards"
            )
        return len(found) >= len(self.scenes)


def in_half(values: np.ndarray) -> bytes:
    """A file of the numbers in float16."""
    file = io.BytesIO()
    np.save(file, values.astype(np.float16))
    return file.getvalue()


def write_shards(
    split: str,
    count: int,
    out: str | Path,
    size: int = 64,
    clouds: bool = False,
    workers: int | None = None,
    start: int = 0,
    things: int | None = None,
    distances: bool = False,
) -> list[Path]:
    """Write scenes `start` … `start + count - 1` of a split as `out/shard-00000.tar` …, 1,000 scenes each.

    A sample is `<key>.png` (RGB, `size` px), `<key>.txt` (caption), `<key>.captions.txt` (that and shorter ones, one
    a line), `<key>.json` (attributes) and, with `clouds`, `<key>.npy` (float16 [4096, 6]), with `distances`
    `<key>.distances.npy` (float16 [4096, 4], see `Scene.distances`); `<key>.sha256` is of all these, see `add_sample`.
    things: leave out scenes that have not so many. Works on up to `workers` processes (default: one per core), shows a
    progress bar, keeps shards that are already there, and leaves no part of a shard when stopped. A script must call
    it under `if __name__ == "__main__":`, as processes import the script again.
    Returns the paths of all shards. Raises ValueError, FileExistsError or another OSError before rendering; they take
    more space than there is on the disk, say.
    """
    from ..training.shards import add_sample

    if count < 1:
        raise ValueError(f"the number of scenes must be at least 1, not {count}")
    if start < 0:
        raise ValueError(f"the first scene must be at least 0, not {start}")
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise ValueError(f"the number of workers must be at least 1, not {workers}")
    out = Path(out)

    def shard_from(first: int) -> Shard:
        path = out / f"shard-{(first - start) // SCENES_PER_SHARD:05d}.tar"
        last = min(first + SCENES_PER_SHARD, start + count)
        return Shard(path, split, first, last, size, clouds, things, distances)

    _check_space(shard_from(start), count)
    out.mkdir(parents=True, exist_ok=True)
    shards = [shard_from(first) for first in range(start, start + count, SCENES_PER_SHARD)]
    shards = [shard for shard in shards if shard.scenes]
    if not shards:
        raise ValueError(f"none of these {count} scenes has {things} things; write more")
    missing = [shard for shard in shards if not shard.is_written()]
    left, total = (sum(len(shard.scenes) for shard in some) for some in (missing, shards))
    with (
        tqdm(total=total, initial=total - left, unit="scene", desc=f"{split} {size} px") as bar,
        worker_map(min(workers, 1 + left // SCENES_A_PROCESS)) as map_in_workers,
    ):
        for shard in missing:
            keys = (f"{shard.split}-{index:08d}" for index in shard.scenes)
            samples = map_in_workers(shard.sample, shard.scenes)
            with (
                write_whole(shard.path) as beside,
                tarfile.open(beside, "w", format=tarfile.USTAR_FORMAT) as tar,
            ):
                for key, sample in zip(keys, samples, strict=True):
                    add_sample(tar, key, sample)
                    bar.update()
    return [shard.path for shard in shards]


def _check_space(first: Shard, count: int) -> None:
    """Raises OSError if `count` scenes like the first do not fit on the disk, beside or in place of what is there."""
    content = first.sample(first.first)
    # In a tar each file has a header of 512 bytes, and ends at a multiple of that.
    scene = sum(512 + -(-len(part) // 512) * 512 for part in content.values())
    needed = scene * count * len(first.scenes) / (first.last - first.first)
    folder = next(place for place in first.path.absolute().parents if place.is_dir())
    there = sum(path.stat().st_size for path in first.path.parent.glob("shard-*.tar"))
    free = shutil.disk_usage(folder).free
    if needed > free + there:
        raise OSError(
            f"{count:,} scenes take about {needed / 1e9:,.3f} GB, and {folder} has {free / 1e9:,.3f} GB free; "
            "write fewer, or to another disk"
        )
