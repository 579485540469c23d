"""From noise to samples: one loop for everything on a discrete schedule, two for Karras noise levels."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoiser import Denoiser
from .schedules import RespacedScheduler

Draw = Callable[[], Tensor]
# (step, timestep or noise level, x after the step, the x0 that it was made with) -> another x, or None
OnStep = Callable[[int, float, Tensor, Tensor], Tensor | None]


def seeded_generators(seed: int, count: int) -> list[torch.Generator]:
    """One CPU generator per sample, the i-th seeded with seed + i, so that no sample depends on its batch."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def normal_draws(
    generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Draw:
    """A source of noise: each call gives normal float32 [N, *shape], row i from the i-th generator, where that is."""

    def draw() -> Tensor:
        return torch.stack([torch.randn(*shape, generator=g, device=g.device) for g in generators]).to(device)

    return draw


def steps_taken(steps: int, strength: float) -> int:
    """How many of the steps are taken from a photo on, at least one."""
    return max(1, round(strength * steps))


def begun(scheduler: RespacedScheduler, noise: Tensor, small: Tensor, strength: float) -> tuple[Tensor, int]:
    """What sampling begins with, and its first step: `noise`, or a picture, enlarged if it is smaller, with some of it.

    noise: [N, 3, side, side]; small: [N or 1, 3, h, w]. strength: the share of its steps that are taken, the last ones.
    """
    if strength == 1:
        return noise, 0
    count = len(scheduler.timesteps)
    start = count - steps_taken(count, strength)
    enlarged = F.interpolate(small, noise.shape[2:], mode="bilinear")
    return scheduler.add_noise(enlarged, noise, start), start


@torch.no_grad()
def sample(
    denoise: Denoiser,
    scheduler: RespacedScheduler,
    x: Tensor,
    draw: Draw,
    start: int = 0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Samples of x's shape [N, C, …], float32: pictures, vectors or clouds.

    x: where sampling starts, noise as at the timestep of step `start`: pure noise for the first one, or from
    `scheduler.add_noise` to begin with a picture. draw: a source of further noise, such as `normal_draws`.
    on_step: called after each step as (step, timestep, x, x0); a tensor that it returns takes x's place.
    Source: Ho et al. 2020, algorithm 2.
    """
    scheduler.start()
    for step, timestep in list(enumerate(scheduler.timesteps))[start:]:
        x0, variance = denoise(x, torch.full((len(x),), timestep, device=x.device))
        x = scheduler.step(step, x, x0, variance, draw)
        x = _reported(on_step, step, timestep, x, x0)
    return x


@torch.no_grad()
def heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    draw: Draw,
    churn: float = 0.0,
    on_step: OnStep | None = None,
) -> Tensor:
    """Samples of x's shape from x = x0 + sigmas[0] · noise, in Heun steps along `sigmas`, highest first, 0 last.

    denoise: called with sigmas [N] in place of timesteps. draw: called once a step. churn: how much noise is added anew
    over a run, at most as much as doubles the variance at a step. on_step: as in `sample`, with the noise level
    reached. Source: Karras et al. 2022, algorithm 2.
    """
    gamma = min(churn / (len(sigmas) - 1), 2**0.5 - 1)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        raised = sigma * (1 + gamma)
        x = x + draw() * (raised**2 - sigma**2) ** 0.5
        x0, _ = denoise(x, raised.expand(len(x)))
        slope = (x - x0) / raised
        ahead = x + slope * (following - raised)
        if following > 0:
            slope_ahead = (ahead - denoise(ahead, following.expand(len(x)))[0]) / following
            ahead = x + (slope + slope_ahead) / 2 * (following - raised)
        x = _reported(on_step, step, float(following), ahead, x0)
    return x


@torch.no_grad()
def multistep(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    draw: Draw | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Samples as from `heun`, of one evaluation a step: DPM-Solver++ of second order over two steps.

    draw: None: nothing is drawn; else called once a step but the last, for the solver of the stochastic equation.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2 and appendix on SDE-DPM-Solver++, in terms of sigmas.
    """
    before, width_before = None, sigmas.new_tensor(0.0)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        x0, _ = denoise(x, sigma.expand(len(x)))
        if following > 0:
            width = (sigma / following).log()
            # Where x0 is heading, half a step from here on.
            ahead = x0 if before is None else x0 + (x0 - before) * (width / width_before / 2)
            kept = (following / sigma) ** (1 if draw is None else 2)
            x = kept * x + (1 - kept) * ahead
            if draw is not None:
                x = x + draw() * following * (1 - kept).sqrt()
            before, width_before = x0, width
        else:
            x = x0
        x = _reported(on_step, step, float(following), x, x0)
    return x


def _reported(on_step: OnStep | None, step: int, level: float, x: Tensor, x0: Tensor) -> Tensor:
    replaced = None if on_step is None else on_step(step, level, x, x0)
    return x if replaced is None else replaced
