"""Maquette: words to pictures to 3D. The front door; everything heavy is imported on first use."""

import importlib
import importlib.metadata
import platform
import sys
from pathlib import Path

__version__ = "0.1.0"

# In a clone the sibling rooms lie beside this folder, not inside it, and this folder shadows an installed package.
_root = Path(__file__).resolve().parent
if not (_root / "diffusion").is_dir():
    __path__.append(str(_root.parent))


def _hide_torchvision_of_another_torch() -> None:
    """Make an unusable torchvision look absent, which every library copes with.

    Beside pytorch.org's CPU build of torch, the registry's torchvision, built for CUDA, fails when it is imported,
    and with it whatever imports it because it is installed, such as peft.
    """
    try:
        ours, theirs = (importlib.metadata.version(name) for name in ("torch", "torchvision"))
    except importlib.metadata.PackageNotFoundError:
        return
    # Elsewhere than here the registry's torchvision is itself a CPU build.
    here = sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")
    if here and ours.endswith("+cpu") and "+" not in theirs:
        sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]


_hide_torchvision_of_another_torch()

_EXPORTS = {
    "ClipEncoder": "clip",
    "ClipModel": "clip",
    "GlidePipeline": "pipelines",
    "PictureIndex": "search",
    "ZeroShotClassifier": "clip",
    "pipeline": "pipelines",
}


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"maquette.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module 'maquette' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_EXPORTS])
