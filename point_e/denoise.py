"""Denoisers `(x, t) -> (x0, variance)` and the Heun loop over noise levels, until diffusion/ has them."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


def from_epsilon(network: Callable[[Tensor, Tensor], Tensor], alphas_cumprod: np.ndarray) -> Denoiser:
    """The denoiser of a network that gives epsilon, then the variance. Source: Ho et al. 2020, equation 15."""
    table = torch.from_numpy(alphas_cumprod)

    def denoise(x, t):
        epsilon, variance = network(x, t).chunk(2, dim=1)
        alpha_bar = rearrange(table[t.cpu()], "n -> n 1 1")
        signal, noise = (1 / alpha_bar).sqrt().to(x), (1 / alpha_bar - 1).sqrt().to(x)
        return signal * x - noise * epsilon, variance

    return denoise


def clipped(denoise: Denoiser, limit: float = 1.0) -> Denoiser:
    """The same with x0 in [-limit, limit]."""

    def within(x, t):
        x0, variance = denoise(x, t)
        return x0.clamp(-limit, limit), variance

    return within


def guided(denoise: Denoiser, guidance_scale: float) -> Denoiser:
    """Leans away from the second, unconditional half of the conditions of `denoise`. Source: Ho & Salimans 2021."""
    if guidance_scale == 1:
        return denoise

    def leaning(x, t):
        x0, variance = denoise(torch.cat([x, x]), torch.cat([t, t]))
        conditional, unconditional = x0.chunk(2)
        x0 = unconditional + guidance_scale * (conditional - unconditional)
        return x0, None if variance is None else variance.chunk(2)[0]

    return leaning


def heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], churn: float = 0.0
) -> Tensor:
    """From x = x_0 + sigmas[0] * noise to x_0, with one draw a step. Source: Karras et al. 2022, algorithm 2."""
    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for sigma, following in pairwise(sigmas):
        raised = sigma * (1 + gamma)
        x = x + draw() * (raised**2 - sigma**2) ** 0.5
        slope = (x - denoise(x, raised.expand(len(x)))[0]) / raised
        step = following - raised
        ahead = x + slope * step
        if following > 0:
            slope_ahead = (ahead - denoise(ahead, following.expand(len(x)))[0]) / following
            ahead = x + (slope + slope_ahead) / 2 * step
        x = ahead
    return x
