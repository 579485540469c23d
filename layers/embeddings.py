"""Timesteps and places as vectors."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of timesteps [N] -> float32 [N, width], cosines first. Source: DDPM, appendix B."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * 10000.0**-exponent
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))


def with_waves(points: Tensor, octaves: int, period: float = 2.0) -> Tensor:
    """Points [N, points, C], xyz first, with sines and cosines of xyz beside them: [N, points, C + 6 octaves].

    period: of the longest waves, in the points' own units; each octave's are half as long as those before. From them a
    network sees at once what it would else have to learn: where on a fine scale a point lies.
    Source: NeRF (Mildenhall et al. 2020), equation 4.
    """
    if not octaves:
        return points
    frequencies = math.tau / period * 2.0 ** torch.arange(octaves, device=points.device)
    angles = (points[..., :3, None].float() * frequencies).flatten(-2)
    return torch.cat([points, angles.sin().to(points.dtype), angles.cos().to(points.dtype)], dim=-1)
