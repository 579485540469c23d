"""Ctrl-C while a command writes files."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


def clean_up_on_interrupt() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that files being written are removed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def cleaning_up_on_interrupt() -> Iterator[None]:
    """The same within a block only."""
    before = signal.getsignal(signal.SIGINT)
    clean_up_on_interrupt()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
