"""Point-E's sampling along Karras noise levels: first a base network, then an upsampler."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..diffusion.denoiser import (
    Denoiser,
    check_levels,
    clipped,
    from_epsilon,
    guided,
    per_sample,
    scale_between,
)
from ..diffusion.sampling import Draw, OnStep, heun, multistep
from ..diffusion.schedules import SCHEDULES, betas
from ..weights.table import nearest
from .transformer import CHANNEL_BIASES, CHANNEL_SCALES, PointDiffusionTransformer

TRAINING_STEPS = 1024
SAMPLERS = ("heun", "dpm++", "sde-dpm++")


@dataclass(frozen=True)
class Stage:
    """How a network is sampled from; the defaults are the published base networks'.

    schedule: of the noise in training, 1024 steps. steps, sigmas: how many Karras noise levels, the lowest and the
    highest of them. sampler: "heun", two evaluations a step, or "dpm++" or "sde-dpm++", one a step. churn: how much
    noise "heun" adds anew over a run. guidance_scale: 0 or 1 for no guidance; guidance_interval: the lowest and the
    highest noise level at which it is used, None: at all.
    """

    schedule: str = "squaredcos_cap_v2"
    steps: int = 64
    sigmas: tuple[float, float] = (1e-3, 120.0)
    sampler: str = "heun"
    churn: float = 3.0
    guidance_scale: float = 3.0
    guidance_interval: tuple[float, float] | None = None

    def __post_init__(self):
        """Raises ValueError for what is not known, or cannot be."""
        for what, name, known in (
            ("sampler", self.sampler, SAMPLERS), ("noise schedule", self.schedule, SCHEDULES),
        ):  # fmt: skip
            if name not in known:
                raise ValueError(
                    f"unknown {what} {name!r}{nearest(str(name), known)}; known are {', '.join(known)}"
                )
        if self.steps < 1:
            raise ValueError(f"the number of steps must be at least 1, not {self.steps}")
        check_levels(self.sigmas, "sigmas")
        check_levels(self.guidance_interval, "guidance_interval")


BASE = Stage()
UPSAMPLE = Stage(schedule="linear", sigmas=(1e-3, 160.0), churn=0.0)


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
    on_step: OnStep | None = None,
) -> Tensor:
    """Clouds [N, 6, points] made from noise, xyz in scene units and rgb in 0…255, both unclipped: see `as_clouds`.

    draw: a source of noise [N, 6, points] such as `normal_draws`, which says how many points are made; however many,
    they count as n_ctx, see `PointDiffusionTransformer.token_counts`. embedding, grid, low_res: as in the network's
    `forward`; guidance leans away from all of them being 0. The result begins with the points of `low_res`. on_step: as
    in `heun`, of points as the network sees them. Source: Point-E, section 4, and openai/point-e.
    """
    given = {"embedding": embedding, "grid": grid, "low_res": low_res}
    given = {name: value for name, value in given.items() if value is not None}
    sigmas = karras_sigmas(stage.steps, *stage.sigmas)
    x = draw() * sigmas[0]
    denoise = _denoiser(net, stage, given, x.shape[2])
    if stage.sampler == "heun":
        x = heun(denoise, x, sigmas, draw, stage.churn, on_step)
    else:
        x = multistep(denoise, x, sigmas, draw if stage.sampler == "sde-dpm++" else None, on_step)
    scales, biases = (rearrange(x.new_tensor(c), "c -> c 1") for c in (CHANNEL_SCALES, CHANNEL_BIASES))
    points = (x - biases) / scales
    return points if low_res is None else torch.cat([low_res, points], dim=2)


def _denoiser(
    net: PointDiffusionTransformer, stage: Stage, given: dict[str, Tensor], points: int
) -> Denoiser:
    """The network told what is given, once for the whole run, and guided as the stage says; called with sigmas."""
    alphas_cumprod = np.cumprod(1 - betas(stage.schedule, TRAINING_STEPS))

    def told(conditions: Tensor | None, counts: Tensor | None) -> Denoiser:
        return clipped(from_epsilon(partial(net, conditions=conditions, counts=counts), alphas_cumprod))

    conditional = told(net.encode_conditions(**given), net.token_counts(points, given))
    if not given or stage.guidance_scale in (0, 1):
        return at_sigmas(conditional, alphas_cumprod)
    scale = scale_between(stage.guidance_scale, stage.guidance_interval, alphas_cumprod)
    unconditional = told(*nothing(net, given, points))

    def both(x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor | None]:
        halves = zip((conditional, unconditional), x.chunk(2), timesteps.chunk(2), strict=True)
        return torch.cat([denoise(*half)[0] for denoise, *half in halves]), None

    return at_sigmas(guided(both, scale, conditional, unconditional), alphas_cumprod)


def nothing(
    net: PointDiffusionTransformer, given: dict[str, Tensor], points: int
) -> tuple[Tensor | None, Tensor | None]:
    """The conditions of arguments like these that are 0, and the counts, as the network's `forward` takes them.

    All tokens of a zero grid are alike, and so are those of a zero cloud: one stands for all of them, which takes the
    published upsampler's half of a guided evaluation from 4,353 tokens to 3,075.
    """
    short = {
        name: torch.zeros_like(value[:, :, :1] if value.dim() == 3 else value)
        for name, value in given.items()
    }
    conditions, counts = net.encode_conditions(**short), net.token_counts(points, given)
    if not net.token_cond:
        return conditions, counts
    tokens = [value.shape[2] if value.dim() == 3 else 1 for value in given.values()]
    counts = torch.ones(sum(tokens)) if counts is None else counts
    told, others = counts.split([sum(tokens), len(counts) - sum(tokens)])
    return conditions, torch.cat([torch.stack([some.sum() for some in told.split(tokens)]), others])


def as_clouds(points: Tensor) -> Tensor:
    """What `sample_points` makes -> clouds [N, points, 6]: xyz in scene units, rgb in [0, 1], in steps of 1/255."""
    xyz, rgb = rearrange(points, "n c points -> n points c").split(3, dim=-1)
    return torch.cat([xyz, rgb.clamp(0, 255).round() / 255], dim=-1)
