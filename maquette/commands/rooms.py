"""What the commands share: the library, imported when it is needed, and Ctrl-C."""

import importlib
import signal
from typing import Any


def room(name: str) -> Any:
    """A part of the library, imported when it is needed."""
    return importlib.import_module(f"maquette.{name}")


def clean_up_on_interrupt() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that files being written are removed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
