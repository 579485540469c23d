"""The hybrid loss that trains a network's noise prediction and, beside it, its variance."""

import math

import torch
from torch import Tensor

from .denoiser import per_sample
from .schedules import betas

MAX_WEIGHT = 10.0
TABLES = ("signal", "noise", "log_smallest", "log_largest", "mean_x0", "mean_x")


class HybridLoss:
    """Mean squared error of the noise plus the variational bound, which trains only the variance channels.

    In the bound the predicted x_0 is clipped to -1 … 1, as in sampling.

    snr_clamp: (low, high), between which the signal-to-noise ratio weighs the squared error of x_0; None: the squared
    error of the noise counts the same at all timesteps, as in GLIDE.
    Source: Nichol & Dhariwal 2021, section 3.1 (L_hybrid, here with the bound's weight as in improved-diffusion);
    Salimans & Ho 2022, section 4, and Hang et al. 2023, section 3.4 (clamped SNR).
    """

    def __init__(
        self,
        schedule: str = "squaredcos_cap_v2",
        steps: int = 1000,
        snr_clamp: tuple[float, float] | None = None,
    ):
        if snr_clamp is not None and not (len(snr_clamp) == 2 and 0 < snr_clamp[0] <= snr_clamp[1]):
            raise ValueError(f"snr_clamp must be (low, high) with 0 < low <= high, not {snr_clamp!r}")
        beta = torch.from_numpy(betas(schedule, steps))
        alpha_bar = torch.cumprod(1 - beta, 0)
        previous = torch.cat([torch.ones(1, dtype=beta.dtype), alpha_bar[:-1]])
        posterior = beta * (1 - previous) / (1 - alpha_bar)
        posterior[0] = posterior[1]  # the first is zero, and is never drawn from
        self.steps = steps
        self.snr_clamp = snr_clamp
        self.signal, self.noise = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
        self.log_smallest, self.log_largest = posterior.log().float(), beta.log().float()
        self.mean_x0 = (beta * previous.sqrt() / (1 - alpha_bar)).float()
        self.mean_x = ((1 - previous) * (1 - beta).sqrt() / (1 - alpha_bar)).float()

    def add_noise(self, x0: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """x at `timesteps` [N]: x0 [N, C, …] with normal `noise` mixed in."""
        return _at(self.signal, timesteps, x0) * x0 + _at(self.noise, timesteps, x0) * noise

    def noised(
        self, x0: Tensor, generator: torch.Generator, levels: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x0 [N, …] with noise at random ones of the lowest `levels` timesteps: that, the timesteps [N], the noise."""
        timesteps = torch.randint(levels or self.steps, (len(x0),), generator=generator).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        return self.add_noise(x0, timesteps, noise), timesteps, noise

    def mean(
        self, predicted: Tensor, x0: Tensor, x: Tensor, timesteps: Tensor, noise: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, weighted, and the means of its two parts; arguments as of a call."""
        error, bound = self(predicted.float(), x0, x, timesteps, noise)
        loss = (error * self.weight(timesteps) + bound).mean()
        return loss, {"squared_error": error.mean(), "bound": bound.mean()}

    def weight(self, timesteps: Tensor) -> Tensor:
        """What the squared error of each sample counts in the loss, [N]: clamp(SNR) / SNR, at most MAX_WEIGHT."""
        snr = (self.signal / self.noise).square().to(timesteps.device)[timesteps]
        return (
            (snr.clamp(*self.snr_clamp) / snr).clamp_max(MAX_WEIGHT)
            if self.snr_clamp
            else torch.ones_like(snr)
        )

    def __call__(
        self, predicted: Tensor, x0: Tensor, x: Tensor, timesteps: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(squared error, bound in bits) of each sample, both [N], for the network's output [N, 2C, …]."""
        epsilon, variance = predicted.split(x.shape[1], dim=1)
        error = (epsilon - noise).square().flatten(1).mean(1)
        return error, self._bound(epsilon.detach(), variance, x0, x, timesteps)

    def _bound(self, epsilon, variance, x0, x, timesteps):
        """KL of the true step from the predicted one; at the first timestep the log-likelihood of the pixels."""
        at = {name: _at(getattr(self, name), timesteps, x) for name in TABLES}
        log_variance = torch.lerp(at["log_smallest"], at["log_largest"], (variance + 1) / 2)
        predicted_x0 = ((x - at["noise"] * epsilon) / at["signal"]).clamp(-1, 1)
        mean = at["mean_x0"] * predicted_x0 + at["mean_x"] * x
        distance = at["mean_x0"] * (x0 - predicted_x0)
        difference = log_variance - at["log_smallest"]
        kl = 0.5 * (difference - 1 + torch.exp(-difference) + distance.square() * torch.exp(-log_variance))
        first = per_sample(timesteps == 0, x).bool()
        bits = torch.where(first, _pixel_surprise(x0, mean, log_variance), kl)
        return bits.flatten(1).mean(1) / math.log(2)


def _at(table: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
    return per_sample(table.to(like.device)[timesteps], like)


def _pixel_surprise(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log of what a normal distribution leaves to the 1/127.5-wide bin of each pixel; the outer bins are open."""
    deviation = torch.exp(-0.5 * log_variance)
    upper = torch.special.ndtr((x0 - mean + 1 / 255) * deviation)
    lower = torch.special.ndtr((x0 - mean - 1 / 255) * deviation)
    upper = torch.where(x0 > 0.999, 1.0, upper)
    lower = torch.where(x0 < -0.999, 0.0, lower)
    return -(upper - lower).clamp_min(1e-12).log()
