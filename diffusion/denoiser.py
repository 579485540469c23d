"""Denoisers, and layers over them.

A denoiser is what a sampler calls: (x [N, C, …], timesteps [N]) -> (x0 of x's shape, variance of x's shape or None),
the picture, vector or cloud that x is without its noise, and where the network puts the next step's variance, from -1
(the smallest) to 1 (the largest). `from_epsilon` and `from_x0` make one of a network; the others are layers over one.
"""

from collections.abc import Callable, Sequence
from itertools import product
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .schedules import RespacedScheduler

Network = Callable[[Tensor, Tensor], Tensor]
Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Scale = float | Callable[[int], float]


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


def guided(
    denoise: Denoiser,
    guidance_scale: Scale | None = None,
    conditional: Denoiser | None = None,
    unconditional: Denoiser | None = None,
) -> Denoiser:
    """A denoiser that leans away from its unconditional prediction by `guidance_scale`.

    `denoise` must hold conditioning for twice the samples, the conditional half first; both halves run as one batch.
    guidance_scale: a number, or a function of the timestep, such as `scale_between`. `conditional` and `unconditional`
    hold one half each and are called alone where it is 1 and where it is 0. With a fixed scale of 1 or None and no
    `conditional`, `denoise` must hold that half only. The variance is the conditional half's where that is computed.
    Source: Ho & Salimans 2021; GLIDE, section 2.3, where the noise is guided, which is the same.
    """
    if guidance_scale is None or guidance_scale == 1:
        return conditional or denoise

    def leaning(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        scale = guidance_scale(int(timesteps[0])) if callable(guidance_scale) else guidance_scale
        alone = conditional if scale == 1 else unconditional if scale == 0 else None
        if alone is not None:
            return alone(x, timesteps)
        x0, variance = denoise(torch.cat([x, x]), torch.cat([timesteps, timesteps]))
        conditioned, free = x0.chunk(2)
        return torch.lerp(free, conditioned, scale), None if variance is None else variance.chunk(2)[0]

    return leaning


def check_levels(levels: Any, what: str) -> None:
    """Raises ValueError unless it is None or two noise levels."""
    pair = list(levels) if isinstance(levels, Sequence | np.ndarray) else []
    two = len(pair) == 2 and all(isinstance(level, Real) for level in pair)
    if levels is not None and not (two and 0 <= pair[0] <= pair[1]):
        raise ValueError(
            f"{what} must be two noise levels, the lower first, such as (0.3, 5), not {levels!r}"
        )


def scale_between(
    guidance_scale: float, interval: Sequence[float] | None, alphas_cumprod: np.ndarray | Tensor
) -> Scale:
    """A scale for `guided`: `guidance_scale` at the noise levels of an interval, and 1, which is none, elsewhere.

    interval: the lowest and the highest level, None: all. A scale below 1, which leans away from what is told, holds at
    all levels in any case.

    A level is the noise's deviation in units of the picture's own, sigma = sqrt((1 - alpha_bar) / alpha_bar).
    Source: Kynkäänniemi et al. 2024, section 3: guidance harms at high noise and costs for nothing at low noise.
    """
    if interval is None:
        return guidance_scale
    low, high = interval
    table = torch.as_tensor(alphas_cumprod)
    sigmas = ((1 - table) / table).sqrt()
    outside = min(1.0, guidance_scale)
    return lambda timestep: guidance_scale if low <= sigmas[timestep] <= high else outside


def clip_guided(
    denoise: Denoiser, gradient: Callable[[Tensor, Tensor], Tensor], scheduler: RespacedScheduler
) -> Denoiser:
    """A denoiser whose x0 is moved where `gradient` points, by as much as moves the step of `scheduler` by it.

    denoise: what is clipped is clipped before, as in the original. gradient: (x [N, C, …], timesteps [N]) -> the
    gradient of a log-probability with respect to x, such as `NoisedClip.guidance_gradient`.
    Source: Dhariwal & Nichol 2021, section 4.
    """

    def moved(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        shift = scheduler.shift_per_gradient(int(timesteps[0]), variance)
        return x0 + shift * gradient(x, timesteps), variance

    return moved


def x0_guided(
    denoise: Denoiser, gradient: Callable[[Tensor], Tensor], alphas_cumprod: np.ndarray | Tensor
) -> Denoiser:
    """A denoiser whose x0 is moved where `gradient` points, by something that knows clean pictures only.

    gradient: x0 [N, C, …] -> the gradient of a log-probability with respect to it, such as that of `clip_gradient`.
    With respect to x0 and not to x: that would lead back through the denoiser, as Crowson's CLIP guidance does, and
    cost a backward pass and its activations at every step. A shift of the score moves x0 by its covariance given x
    times this gradient; in the covariance's place stands 1 - alpha_bar, which it is for data of deviation 1.
    Source: Bansal et al. 2023 (universal guidance), section 3.2, steps on x0 likewise; Song et al. 2023 (pseudoinverse
    guidance), section 3, has the covariance.
    """
    table = torch.as_tensor(alphas_cumprod)

    def moved(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        return x0 + per_sample(1 - table[timesteps.cpu()], x) * gradient(x0), variance

    return moved


def clipped(denoise: Denoiser, limit: float = 1.0) -> Denoiser:
    """The same with x0 clipped to -limit … limit."""

    def within(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        return x0.clamp(-limit, limit), variance

    return within


def dynamically_clipped(denoise: Denoiser, quantile: float = 0.995) -> Denoiser:
    """The same with each sample's x0 clipped at that quantile of its magnitudes, if above 1, and scaled to -1 … 1.

    In place of `clipped`, where strong guidance saturates colours. Source: Saharia et al. 2022 (Imagen), section 2.3.
    """

    def within(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        x0, variance = denoise(x, timesteps)
        limit = per_sample(x0.flatten(1).abs().quantile(quantile, dim=1).clamp(min=1), x0)
        return x0.clamp(-limit, limit) / limit, variance

    return within


def tiled(denoise_at: Callable[[int, int], Denoiser], tile: int) -> Denoiser:
    """A denoiser of pictures x [N, C, H, W] of any size from `tile` on, from one of squares with that side.

    denoise_at: (top, left) of a tile -> its denoiser. The tiles overlap by at least a quarter, and what they say of a
    pixel is averaged, each with the less weight the nearer its edge is. As all see one x, they agree at every step.
    Source: Bar-Tal et al. 2023 (MultiDiffusion), section 4.
    """
    overlap = max(1, tile // 4)
    ramp = torch.arange(1, tile + 1).clamp(max=overlap) / overlap
    edge = torch.minimum(ramp, ramp.flip(0))

    def of_all_tiles(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        if x.shape[2:] == (tile, tile):
            return denoise_at(0, 0)(x, timesteps)
        weight = torch.outer(edge, edge).to(x)
        total, weights = 0, torch.zeros_like(x[:1, :1])
        for top, left in product(*(_starts(length, tile, overlap) for length in x.shape[2:])):
            place = (..., slice(top, top + tile), slice(left, left + tile))
            x0, variance = denoise_at(top, left)(x[place], timesteps)
            both = x0 if variance is None else torch.cat([x0, variance], dim=1)
            total = torch.zeros(*both.shape[:2], *x.shape[2:]).to(both) if isinstance(total, int) else total
            total[place] += weight * both
            weights[place] += weight
        return _parts(total / weights, x)

    return of_all_tiles


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover `length` evenly and overlap by at least that much."""
    count = 1 + -(-(length - tile) // (tile - overlap))
    return [round(i * (length - tile) / max(1, count - 1)) for i in range(count)]


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
