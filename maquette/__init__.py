"""Maquette: words to pictures to 3D. The front door; everything heavy is imported on first use."""

# pyright: reportMissingImports=false
# In a clone the rooms lie beside this folder, where pyright does not look; in an installed package they lie in it.

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clip import ClipEncoder, ClipModel, ZeroShotClassifier
    from .pipelines import (
        GlideInpaintPipeline,
        GlidePipeline,
        PointEPipeline,
        UnCLIPPipeline,
        UnCLIPVariationPipeline,
        pipeline,
    )
    from .search import PictureIndex

__version__ = "0.1.0"
__all__ = [
    "ClipEncoder",
    "ClipModel",
    "GlideInpaintPipeline",
    "GlidePipeline",
    "PictureIndex",
    "PointEPipeline",
    "UnCLIPPipeline",
    "UnCLIPVariationPipeline",
    "ZeroShotClassifier",
    "pipeline",
]

# In a clone the sibling rooms lie beside this folder, not inside it, and this folder shadows an installed package.
_root = Path(__file__).resolve().parent
if not (_root / "diffusion").is_dir():
    __path__.append(str(_root.parent))


def __getattr__(name: str):
    if name in ("ClipEncoder", "ClipModel", "ZeroShotClassifier"):
        from . import clip as home
    elif name in (
        "GlideInpaintPipeline",
        "GlidePipeline",
        "PointEPipeline",
        "UnCLIPPipeline",
        "UnCLIPVariationPipeline",
        "pipeline",
    ):
        from . import pipelines as home
    elif name == "PictureIndex":
        from . import search as home
    else:
        raise AttributeError(f"module 'maquette' has no attribute {name!r}")
    return getattr(home, name)


def __dir__():
    return sorted([*globals(), *__all__])
