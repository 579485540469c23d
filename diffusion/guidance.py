"""Classifier-free guidance as a layer over any denoiser."""

from collections.abc import Callable

import torch

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def guided(denoiser: Denoiser, guidance_scale: float | None = None) -> Denoiser:
    """A denoiser that leans away from its unconditional prediction by `guidance_scale`.

    `denoiser(x, timesteps)` must hold conditioning for twice the samples, the conditional half first; both
    halves run as one batch. With a scale of 1 or None nothing is guided and it must hold the conditional half
    only. Only the noise is guided; variance channels are the conditional half's. Source: Ho & Salimans 2021;
    GLIDE, section 2.3.
    """
    if guidance_scale is None or guidance_scale == 1:
        return denoiser

    def both_halves(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        cond, uncond = denoiser(torch.cat([x, x]), torch.cat([timesteps, timesteps])).float().chunk(2)
        epsilon = torch.lerp(uncond[:, :channels], cond[:, :channels], guidance_scale)
        return torch.cat([epsilon, cond[:, channels:]], dim=1)

    return both_halves
