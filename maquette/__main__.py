"""The `maquette` command from its first moment: Ctrl-C ends it quietly even while libraries are being imported."""

import os
import signal
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    # An exception thrown into a half-imported library comes out as anything; until files are written there is
    # nothing to clean up, so leave at once.
    before = signal.signal(signal.SIGINT, _leave)
    try:
        from maquette.commands.cli import run  # pyright: ignore[reportMissingImports]  see __init__.py

        return run(sys.argv[1:] if arguments is None else arguments)
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_) -> None:
    os.write(2, b"\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
