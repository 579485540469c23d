"""Two-stage sampling of clouds against what the original computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens.formula import formula_state_dict
from maquette.diffusion import from_epsilon, heun, multistep, normal_draws, seeded_generators
from maquette.diffusion.schedules import betas
from maquette.layers import prepare
from maquette.point_e import PointDiffusionTransformer, PointUpsampler
from maquette.point_e.sampling import (
    BASE,
    UPSAMPLE,
    Stage,
    as_clouds,
    at_sigmas,
    karras_sigmas,
    nothing,
    sample_points,
)
from torch.overrides import TorchFunctionMode


def network(golden, cls, name):
    manifest, _ = golden(f"point_e/{name}")
    return cls.from_original(formula_state_dict(manifest["weights"], manifest["salt"]), manifest["config"])


def assert_close(ours, record, tolerance=2e-3):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= tolerance * max(1.0, record.abs().max().item())


def test_record(golden):
    """Each stage from what the original gave it: run one after the other, rounding alone makes them differ.

    A change of the noise by 6e-8 takes one number of the base stage's 384 out of its tolerance in more than half of all
    runs, and up to 32 of the upsampler's 960 where it starts from that. So one in a hundred is let off in the first.
    """
    manifest, tensors = golden("point_e/sampling")
    config = manifest["config"]
    draw = iter([tensors[key] for key in sorted(tensors) if key.startswith("in/noise")]).__next__
    grid, guidance = tensors["in/embeddings"], config["guidance_scale"]
    base = replace(BASE, steps=config["karras_steps"][0], guidance_scale=guidance)
    ours = sample_points(network(golden, PointDiffusionTransformer, "base_grid"), base, draw, grid=grid)
    points = tensors["out/base"]
    assert ((ours - points).abs() <= 2e-3 * points.abs().max()).float().mean() > 0.99
    stage = replace(UPSAMPLE, steps=config["karras_steps"][1], guidance_scale=guidance)
    net = network(golden, PointUpsampler, "upsample")
    more = sample_points(net, stage, draw, grid=grid, low_res=points)
    assert_close(more, tensors["out/upsampled"])
    assert torch.equal(more[..., : points.shape[2]], points)
    for s, name in ((base, "base"), (stage, "upsample")):
        assert_close(karras_sigmas(s.steps, *s.sigmas), tensors[f"out/sigmas_{name}"], 1e-6)


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
def test_timesteps_of_sigmas(schedule):
    alphas_cumprod = np.cumprod(1 - betas(schedule, 1024))
    exact = torch.from_numpy((1 / alphas_cumprod - 1) ** 0.5)
    between = (exact[[9, 500]] + exact[[10, 501]]) / 2
    sigmas = torch.tensor([1e-4, *between, 1e9], dtype=torch.float32)
    x = torch.ones(4, 6, 2)
    scaled, timesteps = at_sigmas(lambda *inputs: inputs, alphas_cumprod)(x, sigmas)
    assert timesteps.tolist() == [0, 9, 500, 1023]
    torch.testing.assert_close(scaled[:, 0, 0], (1 + sigmas**2).rsqrt())


def test_unguided_networks_see_one_batch(golden):
    net = network(golden, PointDiffusionTransformer, "base_uncond")
    sizes = []
    net.ln_pre.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    generator = torch.Generator().manual_seed(0)
    points = sample_points(net, replace(BASE, steps=3), lambda: torch.randn(2, 6, 20, generator=generator))
    assert points.shape == (2, 6, 20)
    assert sizes == [2] * 5  # two evaluations a step, one in the last


STD = 0.25


@pytest.mark.parametrize("schedule", ["squaredcos_cap_v2", "linear"])
@pytest.mark.parametrize("sampler", ["heun", "dpm++", "sde-dpm++"])
def test_samplers_reach_a_gaussian(sampler, schedule):
    """The exact denoiser of normal data: without noise on the way x is scaled to the data's deviation."""
    alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas(schedule, 1024)))

    def network(x, timesteps):
        a = alphas_cumprod[timesteps[0]]
        return ((1 - a).sqrt() * x / (a * STD**2 + 1 - a)).float()

    denoise = at_sigmas(from_epsilon(network, alphas_cumprod), alphas_cumprod.numpy())
    draw = normal_draws(seeded_generators(0, 2), (6, 500))
    sigmas, x, steps = karras_sigmas(80 if sampler == "sde-dpm++" else 24, 0.01, 120.0), draw(), []
    on_step = lambda step, level, x, x0: steps.append(level)  # noqa: E731
    if sampler == "heun":
        ours = heun(denoise, x * sigmas[0], sigmas, draw, on_step=on_step)
    else:
        ours = multistep(denoise, x * sigmas[0], sigmas, draw if sampler[0] == "s" else None, on_step)
    assert steps == sigmas[1:].tolist()
    assert abs(ours.std() - STD) < 0.02
    if sampler[0] != "s":
        assert (ours - STD * x).abs().max() < 0.05


def test_guidance_in_an_interval_costs_nothing_elsewhere(golden):
    net = network(golden, PointDiffusionTransformer, "base_vector")
    sizes = []
    net.ln_pre.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    draw = normal_draws(seeded_generators(0, 1), (6, 20))
    stage = replace(BASE, steps=5, sampler="dpm++", guidance_interval=(0.1, 10.0))
    vector = torch.nn.functional.normalize(torch.randn(1, net.config.clip_width), dim=1)
    sample_points(net, stage, draw, embedding=vector)
    levels = karras_sigmas(5, *stage.sigmas)[:5].tolist()
    guided = sum(0.1 <= level <= 10 for level in levels)
    assert 0 < guided < 5 and sizes == [1] * (5 + guided)  # each half alone


def test_fewer_points_count_as_those_for_which_they_stand(golden):
    net = network(golden, PointDiffusionTransformer, "base_vector")
    told = []
    net.register_forward_pre_hook(lambda _, args, given: told.append(given["counts"]), with_kwargs=True)
    vector = torch.nn.functional.normalize(torch.randn(1, net.config.clip_width), dim=1)
    for points in (net.config.n_ctx, 16):
        draw = normal_draws(seeded_generators(0, 1), (6, points))
        assert (
            sample_points(net, replace(BASE, steps=1, churn=0.0), draw, embedding=vector).shape[2] == points
        )
    once, guided, few, few_guided = told[0], told[1], told[-2], told[-1]
    assert once is None and guided.tolist() == [1.0]
    assert few.tolist() == few_guided.tolist() == [1.0, 1.0] + [net.config.n_ctx / 16] * 16


class Attended(TorchFunctionMode):
    """Keeps the formats of the queries and masks of every attention."""

    def __init__(self):
        super().__init__()
        self.formats = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            mask = kwargs["attn_mask"]
            self.formats.append((args[0].dtype, None if mask is None else mask.dtype))
        return function(*args, **(kwargs or {}))


def test_counts_are_added_in_the_format_of_the_queries(golden):
    """CUDA's attention takes no others, and a CPU's takes any."""
    net = network(golden, PointDiffusionTransformer, "base_vector").to(torch.bfloat16)
    draw = normal_draws(seeded_generators(0, 1), (6, 16))
    vector = F.normalize(torch.randn(1, net.config.clip_width), dim=1).to(torch.bfloat16)
    with Attended() as attended:
        sample_points(net, replace(BASE, steps=1, churn=0.0), draw, embedding=vector)
    assert set(attended.formats) == {(torch.bfloat16, torch.bfloat16)}


@torch.inference_mode()
@pytest.mark.parametrize("name", ["base_vector", "base_grid", "upsample"])
def test_nothing_is_told_in_few_tokens(golden, name):
    """What guidance leans away from: tokens that are all alike are computed once, and counted."""
    net = network(golden, PointUpsampler if name == "upsample" else PointDiffusionTransformer, name)
    _, tensors = golden(f"point_e/{name}")
    kind = "embedding" if net.config.conditioning == "vector" else "grid"
    given = {kind: tensors["in/embeddings"]}
    given |= {"low_res": tensors["in/low_res"]} if name == "upsample" else {}
    zeros = {key: torch.zeros_like(value) for key, value in given.items()}
    x, timesteps = tensors["in/x"], tensors["in/timesteps"]
    whole = net(x, timesteps, **zeros)
    conditions, counts = nothing(net, given, x.shape[2])
    assert conditions.shape[1] == len(given) and counts.sum() == sum(
        value.shape[2] if value.dim() == 3 else 1 for value in given.values()
    )
    for fast in (net, prepare(net, approximate=False)):
        assert_close(fast(x, timesteps, conditions=conditions, counts=counts), whole, 1e-5)


def test_what_a_stage_cannot_be():
    for arguments, message in (
        ({"sampler": "huen"}, r"unknown sampler 'huen' \(did you mean 'heun'\?\)"),
        ({"schedule": "x"}, "unknown noise schedule"),
        ({"steps": 0}, "at least 1"),
        ({"guidance_interval": (3, 1)}, "the lower first"),
    ):
        with pytest.raises(ValueError, match=message):
            Stage(**arguments)


def test_clouds():
    points = torch.tensor([[0.1, 0.2, -0.3, -5.0, 51.4, 300.0]]).T[None]
    assert_close(as_clouds(points), torch.tensor([[[0.1, 0.2, -0.3, 0.0, 0.2, 1.0]]]), 1e-6)
