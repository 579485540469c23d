"""Published and bundled weights: names, downloads, and files read without running what is in them.

Nothing here imports torch before a file of tensors is read.
"""

from .table import bundled_folder, known_models

__all__ = ["bundled_folder", "known_models"]
