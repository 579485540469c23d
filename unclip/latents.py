"""Arithmetic with what a picture comes to: its embedding, and the noise that it is drawn from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, per_sample
from ..diffusion.schedules import RespacedScheduler


def slerp(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Points [N, *shape] between two [*shape], along the arc from `start` to `end`; lengths change in a line.

    shares: [N], 0: start, 1: end. Where both point the same or the opposite way, the line between them is taken.
    Source: Shoemake 1985; unCLIP (Ramesh et al. 2022), section 3.2.
    """
    lengths = start.norm(), end.norm()
    first, last = start / lengths[0].clamp(min=1e-12), end / lengths[1].clamp(min=1e-12)
    shares = per_sample(shares, start[None])
    angle = (first * last).sum().clamp(-1, 1).acos()
    if angle.sin() < 1e-4:
        return torch.lerp(start[None], end[None], shares)
    direction = (((1 - shares) * angle).sin() * first + (shares * angle).sin() * last) / angle.sin()
    return direction * torch.lerp(*lengths, shares)


def towards(embedding: Tensor, before: Tensor, after: Tensor, strength: float) -> Tensor:
    """An image embedding [D] turned by the difference of two texts' vectors [D], of its own length.

    strength: how far along the arc to the difference itself, from 0: as it is, to 1; 0.25 to 0.5 is usual.
    Raises ValueError for vectors without a difference. Source: unCLIP, section 3.3 (text diffs).
    """
    difference = after / after.norm() - before / before.norm()
    if difference.norm() < 1e-6:
        raise ValueError(
            "the model reads the same in both texts; say the difference in other words, or sooner"
        )
    difference = difference / difference.norm() * embedding.norm()
    return slerp(embedding, difference, torch.tensor([strength]))[0]


@torch.no_grad()
def ddim_inversion(
    denoise: Denoiser,
    scheduler: RespacedScheduler,
    x: Tensor,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """The noise that `sample` with "ddim" and the same steps makes x [N, C, …] of again, nearly.

    denoise: not clipped, as what it says of the noise is used. scheduler: its timesteps are gone through backwards.
    on_step: called after each.
    Source: DDIM (Song et al. 2021), section 4.3; Dhariwal & Nichol 2021, appendix F.
    """
    here = torch.ones((), dtype=torch.float64)
    for timestep in reversed(scheduler.timesteps):
        there = scheduler.alphas_cumprod[timestep]
        x0, _ = denoise(x, torch.full((len(x),), timestep, device=x.device))
        # The network's noise, whatever noise level x has.
        epsilon = (x - there.sqrt().float() * x0) / (1 - there).sqrt().float()
        x = (there / here).sqrt().float() * (x - (1 - here).sqrt().float() * epsilon)
        x = x + (1 - there).sqrt().float() * epsilon
        here = there
        on_step()
    return x


def principal_axes(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] of embeddings [N, D], and the axes [min(N - 1, D), D] along which they differ, most first."""
    mean = embeddings.mean(dim=0)
    return mean, torch.linalg.svd(embeddings - mean, full_matrices=False).Vh[: len(embeddings) - 1]


def in_dimensions(embedding: Tensor, mean: Tensor, axes: Tensor, dimensions: int) -> Tensor:
    """An embedding [D] in the first so many of its principal axes only, which keep the most of what it says.

    Source: unCLIP, section 4 and figure 7.
    """
    axes = axes[:dimensions]
    return mean + (embedding - mean) @ axes.T @ axes
