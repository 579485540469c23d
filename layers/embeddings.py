"""Timesteps as vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor


def timestep_embedding(timesteps: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of timesteps [N] -> float32 [N, width], cosines first. Source: DDPM, appendix B."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * max_period**-exponent
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))
