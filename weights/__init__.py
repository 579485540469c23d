"""Published and bundled weights: names, downloads, and files read without running what is in them.

Nothing here imports torch before a file of tensors is read.
"""

from .download import cache_folder, cached_path, find_file, find_weights
from .model_folder import find_folder, find_model
from .read_weights import read_weights
from .table import known_models, model_entry

__all__ = [
    "cache_folder",
    "cached_path",
    "find_file",
    "find_folder",
    "find_model",
    "find_weights",
    "known_models",
    "model_entry",
    "read_weights",
]
