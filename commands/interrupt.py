"""Ctrl-C while a command writes files."""

import signal


def clean_up_on_interrupt() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that files being written are removed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
