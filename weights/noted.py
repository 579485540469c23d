"""What a library raises, with a word on what it was about."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def noted(note: str, kind: type[Exception] = Exception) -> Iterator[None]:
    """What is raised in the block is passed on with a note, which Python and the command line print after it.

    kind: of what the note is true.
    """
    try:
        yield
    except kind as error:
        error.add_note(note)
        raise
