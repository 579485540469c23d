"""Which part of a picture an inpainting network sees in training."""

import torch


def random_masks(n: int, side: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Masks [N, 1, side, side], 1 where pixels are known: for `share` of the samples all but a random box."""
    low, size = torch.rand(2, n, 2, generator=generator)
    size = ((0.2 + 0.8 * size) * side).round()
    low = (low * (side - size + 1)).floor()
    inside = (torch.arange(side)[None, None] >= low[..., None]) & (
        torch.arange(side)[None, None] < (low + size)[..., None]
    )
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    sees = torch.rand(n, generator=generator) < share
    return (~hole & sees[:, None, None]).float()[:, None]
