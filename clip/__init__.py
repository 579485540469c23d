"""CLIP: the shared encoder of texts and images, its tokenizers, zero-shot use and contrastive training.

Also OpenAI's interface: `from maquette import clip`, then `clip.load`, `clip.tokenize`, `clip.available_models`.
Everything is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import ClipEncoder, ImageFeatures, TextFeatures
    from .model import ClipModel
    from .openai import available_models, load, tokenize
    from .preprocess import Preprocess, open_picture
    from .tokenizer import ClipTokenizer
    from .zero_shot import ZeroShotClassifier

_HOME = {
    "ClipEncoder": "encoder",
    "ClipModel": "model",
    "ClipTokenizer": "tokenizer",
    "ImageFeatures": "encoder",
    "Preprocess": "preprocess",
    "TextFeatures": "encoder",
    "ZeroShotClassifier": "zero_shot",
    "available_models": "openai",
    "load": "openai",
    "open_picture": "preprocess",
    "tokenize": "openai",
}

__all__ = [
    "ClipEncoder",
    "ClipModel",
    "ClipTokenizer",
    "ImageFeatures",
    "Preprocess",
    "TextFeatures",
    "ZeroShotClassifier",
    "available_models",
    "load",
    "open_picture",
    "tokenize",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
