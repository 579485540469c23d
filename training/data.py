"""Which samples are trained on, in which order, and their loading ahead of time.

Shuffling, resuming and sharing between processes are arithmetic on positions: no shuffle buffer, no skipping, no
state to save.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import default_collate

from .shards import Shards


class BrokenSample(ValueError):
    """Training met a sample that cannot be read."""


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def split(count: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples to train on, and of the `held_out` ones to validate on."""
    if held_out >= count:
        raise ValueError(f"validation_samples is {held_out} but the data holds {count}; lower it or add data")
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

    Raises BrokenSample naming shard and key of a sample that cannot be read, or that `prepare` cannot decode.
    """

    def make(numbers: Sequence[int]) -> dict[str, Any]:
        return default_collate([_prepared(shards, number, prepare) for number in numbers])

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


def _prepared(
    shards: Shards, number: int, prepare: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    try:
        return prepare(shards[number])
    except Exception as error:
        sample = shards.samples[number]
        why = str(error) if isinstance(error, ValueError) else repr(error)
        raise BrokenSample(f"sample {sample.key} of {sample.shard} cannot be read: {why}") from error
