"""The original's module `clip.clip`; what it holds is in `loading.py`.

The names come through the package, because a client may have put that into `sys.modules` as "clip": this file is then
read again as `clip.clip`, and must give the same functions.
"""

from . import loading, towers, vocabulary

available_models, load, tokenize = loading.available_models, loading.load, loading.tokenize
build_model = towers.build_model
# What code that copies from the original's examples takes, though its names say that it should not.
_MODELS, _download, _transform = loading.urls(), loading.download, loading.transform

__all__ = ["available_models", "load", "tokenize"]


def __getattr__(name: str):
    if name == "_tokenizer":  # on first use, as it takes a second to make
        return vocabulary.shared_tokenizer()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
