"""Noise schedules and respacing as data, and the diffusers schedulers they drive.

A respaced process keeps some of the training timesteps. The diffusers scheduler is built on exactly the kept
ones, so its own timesteps are 0…kept-1, and `RespacedScheduler.timesteps` maps them to what the network was
trained on. The cumulative products stay float64: the last cosine steps have 1 - beta near 1e-7, which float32
betas cannot hold.
"""

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

SCHEDULES = ("linear", "squaredcos_cap_v2")
SOLVERS = ("dpm++", "sde-dpm++", "unipc")
SAMPLERS = ("ddpm", "ddim", *SOLVERS)


def betas(schedule: str, steps: int = 1000) -> np.ndarray:
    """The variances added at each of `steps` training timesteps, float64 [steps].

    "linear" is Ho et al. 2020 scaled to any number of steps, "squaredcos_cap_v2" Nichol & Dhariwal 2021.
    Raises ValueError for an unknown schedule, or fewer than 21 steps.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown noise schedule {schedule!r}; known are {', '.join(SCHEDULES)}")
    if steps < 21:
        raise ValueError(f"a noise schedule needs at least 21 steps, got {steps}")
    if schedule == "linear":
        return np.linspace(0.1 / steps, 20.0 / steps, steps, dtype=np.float64)
    t = np.arange(steps + 1, dtype=np.float64) / steps
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


def respaced_timesteps(steps: int = 1000, spacing: int | str | Sequence[int] | None = None) -> list[int]:
    """The training timesteps to keep, ascending.

    `spacing` is a count (20 or "20"), counts for equal sections of the process ([10, 10, 3, 2, 2] or
    "10,10,3,2,2"), "ddim50" (50 steps at an integer stride), "fast27" (GLIDE's upsampler), or None, "" or
    "all" for every step.
    Raises ValueError when the process has no such steps. Source: respacing in improved-diffusion and GLIDE.
    """
    if spacing is None or spacing in ("", "all"):
        return list(range(steps))
    if spacing == "fast27":
        # The noisiest timestep gives DDIM artefacts; start two below it.
        return [*respaced_timesteps(steps, (10, 10, 3, 2, 2))[:-1], steps - 3]
    if isinstance(spacing, str) and spacing.startswith("ddim"):
        return _strided(steps, spacing)
    sections = _section_counts(spacing)
    kept, start = [], 0
    for i, count in enumerate(sections):
        size = steps // len(sections) + (i < steps % len(sections))
        if not 1 <= count <= size:
            raise ValueError(
                f"cannot keep {count} of {size} timesteps (spacing {spacing!r}); give between 1 and {size}"
            )
        position, stride = 0.0, (size - 1) / max(count - 1, 1)
        for _ in range(count):
            # Added up, not multiplied: ties round as in the original.
            kept.append(start + round(position))
            position += stride
        start += size
    return kept


def _section_counts(spacing: int | str | Sequence[int]) -> list[int]:
    try:
        counts = spacing.split(",") if isinstance(spacing, str) else np.atleast_1d(spacing).tolist()
        if counts:
            return [int(count) if isinstance(count, str) else index(count) for count in counts]
    except (TypeError, ValueError):
        counts = []
    raise ValueError(
        f"cannot read the spacing {spacing!r}; give a number of steps, counts such as '10,10,3,2,2', "
        "'ddim50' or 'fast27'"
    )


def _strided(steps: int, spacing: str) -> list[int]:
    count = spacing.removeprefix("ddim")
    for stride in range(1, steps + 1):
        kept = range(0, steps, stride)
        if str(len(kept)) == count:
            return list(kept)
    raise ValueError(f"no integer stride takes {count or 'no'} steps out of {steps} (spacing {spacing!r})")


class RespacedScheduler:
    """A diffusers scheduler on some timesteps of a training schedule, stepping from predictions of x0 of any shape.

    alphas_cumprod: float64, of every timestep of the training schedule. timesteps: those that the network sees, highest
    first. Step i of a run goes from `timesteps[i]` to `timesteps[i + 1]`, and the last one to x0. Predictions of x0
    rather than of the noise, because only then can every rule clip them and blend in known pixels.
    """

    def __init__(self, sampler: str, schedule: str, kept: Sequence[int], steps: int = 1000):
        self.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas(schedule, steps)))
        alphas_cumprod = self.alphas_cumprod.numpy()[list(kept)]
        config = {
            "num_train_timesteps": len(alphas_cumprod),
            "trained_betas": 1 - alphas_cumprod / np.append(1.0, alphas_cumprod[:-1]),
            "prediction_type": "sample",
            # The one spacing with which n steps out of n are exactly n-1…0 in all of them.
            "timestep_spacing": "trailing",
        }
        self.rule: Any
        if sampler in ("dpm++", "sde-dpm++"):
            algorithm: Any = sampler.replace("dpm++", "dpmsolver++")
            self.rule = DPMSolverMultistepScheduler(**config, algorithm_type=algorithm)
        elif sampler == "unipc":
            self.rule = UniPCMultistepScheduler(**config)
        else:
            self.rule = DDIMScheduler(**config, clip_sample=False)
        self.rule.alphas_cumprod = torch.from_numpy(alphas_cumprod)
        self.sampler = sampler
        self.timesteps = [int(t) for t in reversed(kept)]

    def start(self) -> None:
        """Begin a new run: the multistep rules forget what they have seen."""
        self.rule.set_timesteps(len(self.timesteps))

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """x as `sample` takes it to begin at `step`: x0 with normal `noise`, of one shape, mixed in."""
        alpha_bar = self.alphas_cumprod[self.timesteps[step]]
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise

    def step(
        self,
        step: int,
        x: torch.Tensor,
        x0: torch.Tensor,
        variance: torch.Tensor | None,
        draw: Callable[[], torch.Tensor],
    ) -> torch.Tensor:
        """The next x from this one and its x0, all [N, C, …].

        `variance` (the network's, -1: smallest, 1: largest; None: the smallest) is for "ddpm" only, `draw` (one normal
        draw like x) for "ddpm" and "sde-dpm++".
        """
        remaining = len(self.timesteps) - 1 - step
        if self.sampler == "sde-dpm++":
            return self.rule.step(x0, remaining, x, variance_noise=draw()).prev_sample
        if self.sampler != "ddpm":
            return self.rule.step(x0, remaining, x).prev_sample
        # DDIM with eta = 1 is ancestral sampling with the smallest variance, beta-tilde. The network puts its
        # own between that and beta, which is the factor below as much: Nichol & Dhariwal 2021, eq. 15.
        noise = torch.zeros_like(x)
        if remaining > 0:
            alpha_bar, previous = self._alpha_bars(step)
            noise = draw()
            if variance is not None:
                noise = noise * ((1 - alpha_bar) / (1 - previous)) ** ((variance + 1) / 4)
        return self.rule.step(x0, remaining, x, eta=1.0, variance_noise=noise).prev_sample

    def shift_per_gradient(self, timestep: int, variance: torch.Tensor | None) -> torch.Tensor:
        """How far x0 moves for the gradient of a log-probability with respect to x, for each unit of it.

        timestep: one of `timesteps`. variance: as for `step`, of any shape, for "ddpm": there the mean of the step
        moves by its variance times the gradient, everywhere else the score by the gradient.
        Source: Dhariwal & Nichol 2021, algorithms 1 and 2.
        """
        step = self.timesteps.index(timestep)
        if self.sampler != "ddpm" or step == len(self.timesteps) - 1:
            # Of the last step it is the same but for a variance that is next to nothing.
            alpha_bar = self.alphas_cumprod[timestep]
            return (1 - alpha_bar) / alpha_bar.sqrt()
        alpha_bar, previous = self._alpha_bars(step)
        smallest = (1 - previous) / previous.sqrt()
        if variance is None:
            return smallest
        return smallest * ((1 - alpha_bar) / (1 - previous)) ** ((variance + 1) / 2)

    def _alpha_bars(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        remaining = len(self.timesteps) - 1 - step
        return self.rule.alphas_cumprod[remaining], self.rule.alphas_cumprod[remaining - 1]


def make_scheduler(
    sampler: str = "ddpm",
    schedule: str = "squaredcos_cap_v2",
    spacing: int | str | Sequence[int] | None = None,
    steps: int = 1000,
) -> RespacedScheduler:
    """The scheduler that `sample` runs.

    sampler: "ddpm" (ancestral, learned variance), "ddim", or for 10 to 25 steps "dpm++", "unipc" or "sde-dpm++". The
    last draws new noise at every step, which mends what an inexact network got wrong in the steps before.
    schedule, steps: what the network was trained with.
    spacing: see `respaced_timesteps`; the solvers take a plain number of steps from the 99 % with the least noise.
    Raises ValueError for an unknown sampler or schedule, or an impossible spacing.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; known are {', '.join(SAMPLERS)}")
    kept = respaced_timesteps(steps, spacing)
    if sampler in SOLVERS and isinstance(spacing, int) and spacing <= steps // 20:
        kept = _solver_timesteps(schedule, steps, spacing)
    elif sampler in SOLVERS and isinstance(spacing, int) and spacing <= steps - steps // 100:
        kept = respaced_timesteps(steps - steps // 100, spacing)
    return RespacedScheduler(sampler, schedule, kept, steps)


def _solver_timesteps(schedule: str, steps: int, count: int) -> list[int]:
    """Even in log-SNR from 99 % to 0.5 % of the process, ascending. Source: DPM-Solver, section 3.4.

    In the last 1 % a network's error in x_0 is magnified more than fifty times, so pure noise stands in for it.
    """
    alphas_cumprod = np.cumprod(1 - betas(schedule, steps))
    log_snr = np.log(alphas_cumprod / (1 - alphas_cumprod))
    even = np.linspace(log_snr[steps - 1 - steps // 100], log_snr[steps // 200], count)
    return sorted(np.rint(np.interp(-even, -log_snr, np.arange(steps))).astype(int).tolist())
