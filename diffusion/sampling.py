"""From noise to pictures: one loop for every sampler."""

from collections.abc import Callable, Sequence

import torch

from .guidance import Denoiser
from .schedules import RespacedScheduler


def seeded_generators(seed: int, count: int) -> list[torch.Generator]:
    """One CPU generator per sample, the i-th seeded with seed + i, so that no sample depends on its batch."""
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def normal_draws(
    generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device | str = "cpu"
) -> Callable[[], torch.Tensor]:
    """A source of noise: each call gives normal float32 [N, *shape], row i from the i-th generator."""
    return lambda: torch.stack([torch.randn(*shape, generator=g) for g in generators]).to(device)


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    scheduler: RespacedScheduler,
    draw: Callable[[], torch.Tensor],
    *,
    temperature: float = 1.0,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
    on_step: Callable[[int, int, torch.Tensor], torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """Pictures [N, C, H, W] in [-1, 1], float32, made from noise.

    denoiser: (x [N, C, H, W], timesteps int64 [N]) -> epsilon, then the variance, [N, 2C, H, W].
    draw: a source of noise such as `normal_draws`; the first draw is where sampling starts, times
    `temperature`.
    known: (image [N, C, H, W], mask [N, 1, H, W]); where the mask is 1 the picture is the image. For
    inpainting.
    on_step: called after each step as (step, timestep, x); a tensor that it returns takes x's place.
    Source: Ho et al. 2020, algorithm 2, with x_0 clipped to [-1, 1].
    """
    scheduler.start()
    x = draw() * temperature
    for step, timestep in enumerate(scheduler.timesteps):
        timesteps = torch.full((len(x),), timestep, device=x.device)
        epsilon, variance = denoiser(x, timesteps).float().split(x.shape[1], dim=1)
        x0 = scheduler.predict_x0(step, x, epsilon)
        if known is not None:
            image, mask = known
            x0 = torch.lerp(x0, image, mask)
        x = scheduler.step(step, x, x0.clamp(-1, 1), variance, draw)
        if on_step is not None and (replaced := on_step(step, timestep, x)) is not None:
            x = replaced
    return x
