"""Which part of a picture an inpainting network sees in training."""

import torch


def random_masks(n: int, side: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Masks [N, 1, side, side], 1 where pixels are known: for `share` of the samples all but a random box.

    For a quarter of these it is the other way round, and all that is known lies in the box: what lies past a picture's
    edges is to be learned, too.
    """
    low, size = torch.rand(2, n, 2, generator=generator)
    size = ((0.2 + 0.8 * size) * side).round()
    low = (low * (side - size + 1)).floor()
    inside = (torch.arange(side)[None, None] >= low[..., None]) & (
        torch.arange(side)[None, None] < (low + size)[..., None]
    )
    hole = inside[:, 0, :, None] & inside[:, 1, None, :]
    chance = torch.rand(n, generator=generator)[:, None, None]
    inside_out = (chance < share / 4) & ~hole.all(2, keepdim=True).all(1, keepdim=True)
    known = torch.where(inside_out, hole, ~hole)
    return (known & (chance < share)).float()[:, None]
