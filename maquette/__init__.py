"""Maquette: words to pictures to 3D. The front door; everything heavy is imported on first use."""

import importlib
from pathlib import Path

__version__ = "0.1.0"

# In a clone the sibling rooms lie beside this folder, not inside it, and this folder shadows an installed package.
_root = Path(__file__).resolve().parent
if not (_root / "diffusion").is_dir():
    __path__.append(str(_root.parent))

_EXPORTS = {"pipeline": "pipelines", "GlidePipeline": "pipelines"}


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"maquette.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'maquette' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_EXPORTS])
