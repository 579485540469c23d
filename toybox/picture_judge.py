"""What the judges of pictures share: how pictures are read in, a residual block, and weights in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..weights.write_whole import write_whole

if TYPE_CHECKING:
    from typing import Self

Pictures = Tensor | np.ndarray | Sequence[Image.Image]
"""Uint8 [N, 64, 64, 3], a list of PIL images (resized to 64 px), or a float tensor [N, 3, 64, 64] in [-1, 1]."""


class PictureJudge(nn.Module):
    """A network for 64 px pictures whose weights ship with the package, in the file `weights`."""

    weights: ClassVar[Path]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """The judge that ships with the package, or the one in a file, in float32 and eval mode."""
        judge = cls()
        saved = load_file(cls.weights if path is None else path)
        judge.load_state_dict({key: value.float() for key, value in saved.items()})
        return judge.eval()

    def save(self, path: str | Path | None = None) -> None:
        """Write the weights in half precision, by default as those that ship."""
        path = Path(self.weights if path is None else path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The counts of seen batches steer training only, and half precision could not hold them.
        weights = {
            key: value.half().contiguous()
            for key, value in self.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        with write_whole(path) as beside:
            save_file(weights, beside)


class Residual(nn.Module):
    """Two 3 × 3 convolutions beside an identity; [N, width, H, W] stays as it is in shape."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def to_pixels(images: Pictures) -> Tensor:
    """Float [N, 3, 64, 64] in [-1, 1]. Raises ValueError for another shape or type than `Pictures`."""
    if isinstance(images, Tensor):
        if images.shape[1:] != (3, 64, 64) or not images.is_floating_point():
            raise ValueError(f"a tensor of pictures must be float [N, 3, 64, 64], not {list(images.shape)}")
        return images
    if not isinstance(images, np.ndarray):
        images = np.stack(
            [np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)) for image in images]
        )
    if images.shape[1:] != (64, 64, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"an array of pictures must be uint8 [N, 64, 64, 3], not {images.dtype} {list(images.shape)}"
        )
    return from_bytes(torch.from_numpy(images))


def from_bytes(images: Tensor) -> Tensor:
    """Uint8 [N, H, W, 3] as float [N, 3, H, W] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1
