"""What a library raises, with a word on what it was about."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noted(note: str) -> Iterator[None]:
    """Whatever is raised in the block is passed on with a note, which Python and the command line print after it."""
    try:
        yield
    except Exception as error:
        error.add_note(note)
        raise
