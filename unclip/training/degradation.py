"""What may have happened to a small picture: blur, noise and compression, in any order. For the largest upsampler."""

from __future__ import annotations

import io

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...diffusion.training.low_res import degraded

# The largest deviations: of the Gaussian in pixels, of the noise of pictures from -1 to 1.
BLUR, NOISE = 1.2, 0.1
QUALITIES = (50, 95)  # of JPEG


def shuffled_degradation(small: Tensor, generator: torch.Generator) -> Tensor:
    """Small pictures [N, 3, h, w] in [-1, 1], each blurred, noised and compressed in an order and amounts of its own.

    A simple form of BSR (Zhang et al. 2021, section 3), which unCLIP's second upsampler was trained with: without
    its further resizing and camera noise. One of four pictures is left as it is, as a good small picture is too.
    """
    made = []
    for one in small.split(1):
        untouched, order = torch.rand(1, generator=generator) < 0.25, torch.randperm(3, generator=generator)
        changed = one
        for step in order.tolist():
            if step == 0:
                changed = degraded(changed, BLUR, 0.0, generator)
            elif step == 1:
                changed = degraded(changed, 0.0, NOISE, generator)
            else:
                changed = _compressed(changed, int(torch.randint(*QUALITIES, (), generator=generator)))
        made.append(one if untouched else changed)
    return torch.cat(made)


def _compressed(picture: Tensor, quality: int) -> Tensor:
    """A picture [1, 3, h, w] as it comes back from a JPEG."""
    pixels = rearrange((picture * 127.5 + 127.5).round().byte().cpu(), "1 c h w -> h w c").numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="jpeg", quality=quality)
    back = torch.from_numpy(np.array(Image.open(file)))
    return rearrange(back, "h w c -> 1 c h w").to(picture) / 127.5 - 1
