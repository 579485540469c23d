"""Where open_clip's own files lie. The package is never imported: that needs a torchvision that works."""

import importlib.util
from pathlib import Path


def open_clip_folder() -> Path:
    """The folder of the open_clip package, found without importing it. Raises ValueError if it is not there."""
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise ValueError("open_clip's tables are missing; install them with: pip install open_clip_torch")
    return Path(found.submodule_search_locations[0])


def open_clip_file(name: str) -> Path:
    """A file of the open_clip package. Raises ValueError if it is not there."""
    path = open_clip_folder() / name
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; reinstall it with: pip install --force-reinstall open_clip_torch"
        )
    return path
