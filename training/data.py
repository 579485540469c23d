"""Training data: webdataset shards, read by position.

The headers of the tar files are scanned once; from then on any sample is one seek away. Shuffling, resuming
and sharing between processes are arithmetic on positions: no shuffle buffer, no skipping, no state to save.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import default_collate
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext


class Shards:
    """The samples of local webdataset shards, by number.

    `pattern` is a path with braces (`shards-{000..099}.tar`). `shards[i]` is a dict of the raw bytes by
    extension, with `__key__` and `__url__` (the shard) as in webdataset. Raises FileNotFoundError naming a
    missing shard and ValueError naming a damaged or an empty one.
    """

    def __init__(self, pattern: str):
        self.paths: list[str] = expand_urls(str(pattern))
        if missing := [path for path in self.paths if not os.path.isfile(path)]:
            raise FileNotFoundError(f"The shard {missing[0]} of {pattern} does not exist.")
        self._samples = [(shard, *sample) for shard, path in enumerate(self.paths) for sample in _scan(path)]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        shard, key, parts = self._samples[number]
        sample: dict[str, Any] = {"__key__": key, "__url__": self.paths[shard]}
        with open(self.paths[shard], "rb") as file:
            for extension, offset, size in parts:
                file.seek(offset)
                sample[extension] = file.read(size)
        return sample

    def fingerprint(self) -> str:
        """A digest of all keys and sizes in order: equal for the same samples at another place."""
        lines = (f"{key} {[(kind, size) for kind, _, size in parts]}" for _, key, parts in self._samples)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _scan(path: str) -> list[tuple[str, list[tuple[str, int, int]]]]:
    samples: dict[str, list[tuple[str, int, int]]] = {}
    name = "the first member"
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name = member.name
                key, extension = base_plus_ext(name)
                if member.isfile() and key and extension:
                    samples.setdefault(key, []).append((extension.lower(), member.offset_data, member.size))
            file.seek(tar.offset)  # where a whole archive ends with zeros, and tarfile does not mind if not
            if file.read(512) != bytes(512):
                raise tarfile.ReadError("the archive ends too early")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"The shard {path} is damaged at {name}: {error}. Write it again.") from None
    if not samples:
        raise ValueError(f"The shard {path} holds no samples (files named KEY.EXTENSION).")
    return list(samples.items())


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def split(count: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples to train on, and of the `held_out` ones to validate on."""
    if held_out >= count:
        raise ValueError(
            f"validation_samples is {held_out} but the data holds {count}; lower it or add data."
        )
    mixed = np.random.default_rng(seed).permutation(count)
    return np.sort(mixed[held_out:]), np.sort(mixed[:held_out])


def shuffled(numbers: np.ndarray, seed: int, positions: range) -> list[int]:
    """Which of `numbers` lie at `positions` of the endless training order, a new permutation every epoch."""
    count = len(numbers)
    return [int(numbers[_permutation(count, seed, p // count)[p % count]]) for p in positions]


def load(
    shards: Shards, prepare: Callable[[dict[str, Any]], dict[str, Any]], batches: Iterable[Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """Read, prepare and stack one batch after another, a few batches ahead of the consumer, in threads.

    Raises ValueError naming shard and key of a sample that `prepare` cannot decode.
    """

    def make(numbers: Sequence[int]) -> dict[str, Any]:
        return default_collate([_prepared(shards[number], prepare) for number in numbers])

    threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    queue: deque = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="data") as pool:
        try:
            for numbers in batches:
                queue.append(pool.submit(make, numbers))
                if len(queue) > threads:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _prepared(sample: dict[str, Any], prepare: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        return prepare(sample)
    except Exception as error:
        where = f"Sample {sample['__key__']} of {sample['__url__']}"
        missing = isinstance(error, KeyError)
        what = f"it has no .{error.args[0]} file" if missing else str(error) or type(error).__name__
        raise ValueError(f"{where} cannot be read: {what}.") from error
