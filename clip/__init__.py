"""CLIP: the shared encoder of texts and images, its tokenizers, zero-shot use and contrastive training.

Also OpenAI's interface: `from maquette import clip`, then `clip.load`, `clip.tokenize`, `clip.available_models`.
Everything is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import ClipEncoder, ImageFeatures, TextFeatures
    from .tokenizer import ClipTokenizer

_HOME = {
    "ClipEncoder": "encoder",
    "ClipTokenizer": "tokenizer",
    "ImageFeatures": "encoder",
    "TextFeatures": "encoder",
}

__all__ = ["ClipEncoder", "ClipTokenizer", "ImageFeatures", "TextFeatures"]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
