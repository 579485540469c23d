"""Which samples are trained on, in which order, and their loading ahead of time.

Shuffling, resuming and sharing between processes are arithmetic on positions: no shuffle buffer, no skipping, no
state to save.
"""

from __future__ import annotations

import os
import warnings
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import default_collate

from .shards import Shards

MOST_IN_A_ROW = 3  # samples that are passed over


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def split(count: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples to train on, and of the `held_out` ones to validate on."""
    if held_out >= count:
        raise ValueError(
            f"validation_samples is {held_out} but the data holds {count}; add data, or write less into the recipe"
        )
    mixed = np.random.default_rng(seed).permutation(count)
    return np.sort(mixed[held_out:]), np.sort(mixed[:held_out])


def shuffled(numbers: np.ndarray, seed: int, positions: range) -> list[int]:
    """Which of `numbers` lie at `positions` of the endless training order, a new permutation every epoch."""
    count = len(numbers)
    return [int(numbers[_permutation(count, seed, p // count)[p % count]]) for p in positions]


def load(
    shards: Shards,
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
    batches: Iterable[Sequence[int]],
    among: Sequence[int] | np.ndarray,
) -> Iterator[dict[str, Any]]:
    """Read, prepare and stack one batch after another, a few batches ahead of the consumer, in threads.

    A sample that cannot be read, or that `prepare` cannot decode, is warned of, and the next of the ascending numbers
    `among` takes its place. Raises ValueError naming shard and key of the first of four such in a row.
    """

    def make(numbers: Sequence[int]) -> dict[str, Any]:
        return default_collate([_prepared(shards, number, prepare, among) for number in numbers])

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
    shards: Shards, number: int, prepare: Callable[[dict[str, Any]], dict[str, Any]], among: Any
) -> dict[str, Any]:
    after = bisect(among, number)
    broken: list[tuple[str, Exception]] = []
    following = [among[(after + i) % len(among)] for i in range(MOST_IN_A_ROW)]
    for place in (number, *following):
        try:
            prepared = prepare(shards[place])
        except Exception as error:  # whatever decoders of damaged files raise
            sample = shards.samples[place]
            why = str(error) if isinstance(error, (ValueError, OSError)) else repr(error)
            said = f"sample {sample.key} of {sample.shard} cannot be read: "
            broken.append((said + why.removeprefix(said), error))
        else:
            for sentence, _ in broken:
                warnings.warn(f"{sentence}; the next one takes its place", stacklevel=2)
            return prepared
    raise ValueError(f"{broken[0][0]}; nor can those after it") from broken[0][1]
