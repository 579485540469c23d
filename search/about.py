"""What an index of pictures says about itself, a small JSON file in its folder: the model, and where the pictures are.

It is written when all else of a new index is there, so a folder without it is none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from .vector_table import NAME

ABOUT, LOCK = "index.json", "lock"
FORMAT = 1


def places_of(path: Path, folder: Path) -> dict[str, str]:
    """Where the pictures lie, as seen from the index and by itself."""
    place = str(folder.resolve())
    try:
        return {"folder": os.path.relpath(place, path.resolve()).replace(os.sep, "/"), "place": place}
    except ValueError:  # another drive
        return {"folder": place, "place": place}


def read_about(path: Path) -> dict[str, Any] | None:
    """What an index says about itself, or None where there is none."""
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(
                f"the index {path} was written by another version of maquette; make a new one elsewhere"
            )
        kinds = {"model": str, "dim": int, "folder": str, "place": str, "fingerprint": list}
        right = all(isinstance(about[key], kind) for key, kind in kinds.items())
        if right and len(about["fingerprint"]) == about["dim"]:
            return about
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise PermissionError(f"the index {path} cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        pass
    raise ValueError(f"the index {path} is damaged ({ABOUT}); delete it and embed the pictures again")


def write_about(path: Path, about: dict[str, Any]) -> None:
    beside = path / f"{ABOUT}.partial"
    try:
        beside.write_text(json.dumps(about), encoding="utf-8")
        beside.replace(path / ABOUT)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise unwritable(path, error) from None


def check_free(path: Path) -> None:
    """See that an index may be made at `path`: nothing of anybody else's is there."""
    if not str(path).isprintable():
        raise ValueError(f"the index cannot be called {str(path)!r}; choose a name that can be printed")
    if path.is_dir():
        ours = {LOCK, f"{ABOUT}.partial", f"{NAME}.lance"}
        if others := sorted({entry.name for entry in path.iterdir()} - ours):
            raise ValueError(
                f"{path} is no index of pictures but a folder with other files ({others[0]}); "
                f"give an index, or a new folder for one"
            )
    elif path.exists():
        raise ValueError(f"{path} is no index of pictures but a file; give an index, or a new folder for one")


def unwritable(path: Path, error: OSError) -> OSError:
    return type(error)(
        f"the index {path} cannot be written ({error.strerror}); make room or choose another place"
    )
