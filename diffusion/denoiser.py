"""Denoisers, and layers over them.

A denoiser is what a sampler calls: (x [N, C, …], timesteps [N]) -> (x0 of x's shape, variance of x's shape or None),
the picture, vector or cloud that x is without its noise, and where the network puts the next step's variance, from -1
(the smallest) to 1 (the largest). `from_epsilon` and `from_x0` make one of a network; the others are layers over one.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """One value a sample [N] -> [N, 1, …], to be broadcast over a `like` [N, …] of any number of axes."""
    return values.view(-1, *(1,) * (like.dim() - 1)).to(like.device, like.dtype)


def from_epsilon(network: Network, alphas_cumprod: np.ndarray | Tensor) -> Denoiser:
    """The denoiser of a network that gives the noise, [N, C, …], or the noise and the variance, [N, 2C, …].

    alphas_cumprod: float64, of each timestep of its training schedule. Source: Ho et al. 2020, equation 15.
    """
    table = torch.as_tensor(alphas_cumprod)

    def denoise(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        epsilon, variance = _parts(network(x, timesteps), x)
        inverse = 1 / table[timesteps.cpu()]
        # In the originals' order of operations: at high noise its rounding is part of their numbers.
        return per_sample(inverse.sqrt(), x) * x - per_sample((inverse - 1).sqrt(), x) * epsilon, variance

    return denoise


def from_x0(network: Network) -> Denoiser:
    """The denoiser of a network that gives x0 itself, [N, C, …], or x0 and the variance, [N, 2C, …]."""
    return lambda x, timesteps: _parts(network(x, timesteps), x)


def guided(denoise: Denoiser, guidance_scale: float | None = None) -> Denoiser:
    """A denoiser that leans away from its unconditional prediction by `guidance_scale`.

    `denoise` must hold conditioning for twice the samples, the conditional half first; both halves run as one batch.
    With a scale of 1 or None nothing is guided and it must hold the conditional half only. The variance is the
    conditional half's. Source: Ho & Salimans 2021; GLIDE, section 2.3, where the noise is guided, which is the same.
    """
    if guidance_scale is None or guidance_scale == 1:
        return denoise

    def both_halves(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(torch.cat([x, x]), torch.cat([timesteps, timesteps]))
        conditional, unconditional = x0.chunk(2)
        x0 = torch.lerp(unconditional, conditional, guidance_scale)
        return x0, None if variance is None else variance.chunk(2)[0]

    return both_halves


def clip_guided(
    denoise: Denoiser, gradient: Callable[[Tensor, Tensor], Tensor], alphas_cumprod: np.ndarray | Tensor
) -> Denoiser:
    """A denoiser whose x0 is moved where `gradient` points: by what a shift of the score by it comes to.

    gradient: (x [N, C, …], timesteps [N]) -> the gradient of a log-probability with respect to x, such as
    `NoisedClip.guidance_gradient`. alphas_cumprod: as for `from_epsilon`. Source: Dhariwal & Nichol 2021, section 4.2.
    """
    table = torch.as_tensor(alphas_cumprod)

    def moved(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        alpha_bar = table[timesteps.cpu()]
        return x0 + per_sample((1 - alpha_bar) / alpha_bar.sqrt(), x) * gradient(x, timesteps), variance

    return moved


def clipped(denoise: Denoiser, limit: float = 1.0) -> Denoiser:
    """The same with x0 clipped to -limit … limit."""

    def within(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        return x0.clamp(-limit, limit), variance

    return within


def keep_known(denoise: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """The same with x0 being `known` [N, C, …] where `mask` [N, 1, …] is 1, and mixed in between. For inpainting."""

    def with_known(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        return torch.lerp(x0, known, mask), variance

    return with_known


def _parts(output: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A network's output in float32, as the prediction and the variance that may follow it."""
    channels = x.shape[1]
    if output.shape[1] not in (channels, 2 * channels) or output.shape[2:] != x.shape[2:]:
        raise ValueError(
            f"a network made {tuple(output.shape)} of x {tuple(x.shape)}; expected C or 2C channels"
        )
    prediction, variance = output.float().tensor_split([channels], dim=1)
    return prediction, variance if variance.shape[1] else None
