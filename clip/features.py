"""What an encoder finds in pictures and texts."""

from typing import NamedTuple

from torch import Tensor


class ImageFeatures(NamedTuple):
    """vector: [N, embed_dim] float32, not normalised; grid: patch tokens [N, tokens, width], None for a ResNet."""

    vector: Tensor
    grid: Tensor | None


class TextFeatures(NamedTuple):
    """vector: [N, embed_dim] float32, not normalised; states: [N, length, width], each token after the last norm."""

    vector: Tensor
    states: Tensor | None
