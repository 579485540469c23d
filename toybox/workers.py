"""Processes that render in parallel: they compute on one thread each, and the parent alone handles Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from threadpoolctl import threadpool_limits

MOST_ON_WINDOWS = 61  # processes of a pool


@contextmanager
def worker_map(workers: int) -> Iterator[Callable[..., Iterator]]:
    """A `map` whose results so many processes compute; of one worker it is Python's own.

    What is not yet computed at the end is given up.
    """
    if workers == 1:
        yield map
        return
    if sys.platform == "win32":
        workers = min(workers, MOST_ON_WINDOWS)
    # A forked copy of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start)

    def submitted(function: Callable, *items) -> Iterator:
        with _interrupts_held():
            return pool.map(function, *items)

    try:
        yield submitted
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start() -> None:
    """In a worker, once."""
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
