"""The small picture that an upsampler is given: reduced, and in training a little worse than it need be."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

FACTOR = 4  # what an upsampler multiplies sides by


def check_crop(crop: int, side: int, factor: int) -> None:
    """Raises ValueError for a crop that does not fit pictures of `side` px and a network that halves to 1/`factor`."""
    factor = max(FACTOR, factor)
    if crop > side or crop % factor or side % factor:
        raise ValueError(f"crop {crop} and image_size {side} must be multiples of {factor}, crop the smaller")


def reduced(pictures: Tensor, factor: int) -> Tensor:
    """Pictures [N, 3, H, W] in [-1, 1] whose pixels are the means of squares of `factor` pixels, in 8 bits' values."""
    return (F.avg_pool2d(pictures, factor) * 127.5 + 127.5).round() / 127.5 - 1


def random_crops(pictures: Tensor, side: int, factor: int, generator: torch.Generator) -> Tensor:
    """A square [N, 3, side, side] of each picture [N, 3, H, H], at a random place in whole steps of `factor` pixels."""
    places = (pictures.shape[-1] - side) // factor + 1
    corners = factor * torch.randint(places, (len(pictures), 2), generator=generator)
    return torch.stack(
        [each[:, y : y + side, x : x + side] for each, (y, x) in zip(pictures, corners.tolist(), strict=True)]
    )


def degraded(pictures: Tensor, blur: float, noise: float, generator: torch.Generator) -> Tensor:
    """The same, each blurred and noised by an amount of its own, so that an upsampler forgives a base its errors.

    pictures: [N, 3, H, W] in [-1, 1]. blur: the largest deviation of the Gaussian, in pixels; noise: of the noise. Both
    are drawn evenly from 0 on. Source: Saharia et al. 2021 (SR3), section 4.5, and Ho et al. 2021 (Cascaded
    Diffusion), section 4.1.
    """
    amounts = torch.rand(2, len(pictures), generator=generator)
    added = torch.randn(pictures.shape, generator=generator).to(pictures.device)
    sigma, deviation = amounts[0].to(pictures.device) * blur, amounts[1].to(pictures.device) * noise
    return (_blurred(pictures, sigma, blur) + deviation[:, None, None, None] * added).clamp(-1, 1)


def _blurred(pictures: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Each picture [3, H, W] under a Gaussian of its own deviation `sigma` [N], at most `largest`."""
    n, radius = len(pictures), math.ceil(3 * largest)
    distance = torch.arange(-radius, radius + 1, device=pictures.device)
    weights = torch.exp(-0.5 * (distance / sigma.clamp_min(0.05)[:, None]).square())
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    x = F.pad(rearrange(pictures, "n c h w -> 1 (n c) h w"), [radius] * 4, mode="replicate")
    x = F.conv2d(x, weights[:, None, :, None], groups=3 * n)
    x = F.conv2d(x, weights[:, None, None, :], groups=3 * n)
    return rearrange(x, "1 (n c) h w -> n c h w", n=n)
