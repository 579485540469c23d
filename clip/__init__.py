"""CLIP: the shared encoder of texts and images, its tokenizers, zero-shot use and contrastive training.

Also OpenAI's interface: `from maquette import clip`, then `clip.load`, `clip.tokenize`, `clip.available_models`.
Everything is imported on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import ClipEncoder
    from .features import ImageFeatures, TextFeatures
    from .model import ClipModel
    from .openai import available_models, load, tokenize
    from .preprocess import Preprocess, open_picture
    from .tokenizer import ClipTokenizer
    from .zero_shot import ZeroShotClassifier

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
    if name == "ClipEncoder":
        from . import encoder as home
    elif name in ("ImageFeatures", "TextFeatures"):
        from . import features as home
    elif name == "ClipModel":
        from . import model as home
    elif name == "ClipTokenizer":
        from . import tokenizer as home
    elif name in ("Preprocess", "open_picture"):
        from . import preprocess as home
    elif name == "ZeroShotClassifier":
        from . import zero_shot as home
    elif name in ("available_models", "load", "tokenize"):
        from . import openai as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
