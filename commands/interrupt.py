"""Ctrl-C while a command writes files."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


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


@contextmanager
def stoppable(said: Callable[[KeyboardInterrupt], object]) -> Iterator[None]:
    """What Ctrl-C may stop and the same command goes on with: it then ends with what is `said`, and exit code 130."""
    clean_up_on_interrupt()
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(f"\n{said(stop)}", err=True)
        raise typer.Exit(130) from None


def shards_kept(out: object) -> Callable[[KeyboardInterrupt], str]:
    """What `stoppable` says of shards in a folder."""
    return lambda _: f"stopped; the shards in {out} are whole, and the same command goes on"
