"""Point-E's sampling: Karras noise levels with Heun steps, first a base network, then an upsampler."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import Denoiser, clipped, from_epsilon, guided, per_sample
from ..diffusion.sampling import Draw, heun
from ..diffusion.schedules import betas
from .transformer import CHANNEL_BIASES, CHANNEL_SCALES, PointDiffusionTransformer

TRAINING_STEPS = 1024


@dataclass(frozen=True)
class Stage:
    """How a network is sampled from; the defaults are the published base networks'.

    schedule: of the noise in training, 1024 steps. steps, sigma_min, sigma_max: Karras noise levels. churn: how much
    noise is added anew over a run. guidance_scale: 0 or 1 for no guidance.
    """

    schedule: str = "squaredcos_cap_v2"
    steps: int = 64
    sigma_min: float = 1e-3
    sigma_max: float = 120.0
    churn: float = 3.0
    guidance_scale: float = 3.0


BASE = Stage()
UPSAMPLE = Stage(schedule="linear", sigma_max=160.0, churn=0.0)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels float32 [steps + 1], highest first, the last one 0. Source: Karras et al. 2022, equation 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    ramp = torch.linspace(0, 1, steps)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1)])


def at_sigmas(denoise: Denoiser, alphas_cumprod: np.ndarray) -> Denoiser:
    """A denoiser of x_0 + sigma * noise, called with sigmas [N], from one that is called with timesteps.

    The timestep is the one whose noise is nearest below in a table of alphas_cumprod float64 [timesteps]. Source:
    k-diffusion, as in openai/point-e.
    """
    timesteps = np.arange(len(alphas_cumprod))

    def on_sigmas(x, sigmas):
        alpha_bar = 1 / (sigmas**2 + 1)
        t = np.interp(-alpha_bar.cpu().numpy(), -alphas_cumprod, timesteps)
        scale = per_sample(alpha_bar.sqrt(), x)
        return denoise(x * scale, torch.from_numpy(t).long().to(x.device))

    return on_sigmas


@torch.no_grad()
def sample_points(
    net: PointDiffusionTransformer,
    stage: Stage,
    draw: Draw,
    embedding: Tensor | None = None,
    grid: Tensor | None = None,
    low_res: Tensor | None = None,
) -> Tensor:
    """Clouds [N, 6, points] made from noise, xyz in scene units and rgb in 0…255, both unclipped: see `as_clouds`.

    draw: a source of noise [N, 6, points] such as `normal_draws`, which says how many points are made. embedding, grid,
    low_res: as in the network's `forward`; guidance leans away from all of them being 0. The result begins with the
    points of `low_res`. Source: Point-E, section 4, and openai/point-e.
    """
    given = {"embedding": embedding, "grid": grid, "low_res": low_res}
    given = {name: value for name, value in given.items() if value is not None}
    guidance = stage.guidance_scale if given and stage.guidance_scale else 1.0
    if guidance != 1:
        given = {name: torch.cat([value, torch.zeros_like(value)]) for name, value in given.items()}
    conditions = net.encode_conditions(**given)
    alphas_cumprod = np.cumprod(1 - betas(stage.schedule, TRAINING_STEPS))

    def predict(x, timesteps):
        return net(x, timesteps, conditions=conditions)

    denoise = guided(clipped(from_epsilon(predict, alphas_cumprod)), guidance)
    sigmas = karras_sigmas(stage.steps, stage.sigma_min, stage.sigma_max)
    x = heun(at_sigmas(denoise, alphas_cumprod), draw() * sigmas[0], sigmas, draw, churn=stage.churn)
    scales, biases = (rearrange(x.new_tensor(c), "c -> c 1") for c in (CHANNEL_SCALES, CHANNEL_BIASES))
    points = (x - biases) / scales
    return points if low_res is None else torch.cat([low_res, points], dim=2)


def as_clouds(points: Tensor) -> Tensor:
    """What `sample_points` makes -> clouds [N, points, 6]: xyz in scene units, rgb clipped to [0, 1]."""
    xyz, rgb = rearrange(points, "n c points -> n points c").split(3, dim=-1)
    return torch.cat([xyz, (rgb / 255).clamp(0, 1)], dim=-1)
