"""Sampling against the original's trajectories, and that a sample does not depend on its batch."""

from functools import partial

import numpy as np
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import GlideUNet, guided, make_scheduler, normal_draws, sample, seeded_generators
from maquette.diffusion.schedules import SAMPLERS, betas


def original(golden, name):
    manifest, tensors = golden(f"glide/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return GlideUNet.from_original(weights, manifest["config"]), tensors


def conditions_of(tensors, prefix):
    names = ("low_res", "inpaint_image", "inpaint_mask")
    return {name: tensors[prefix + name] for name in names if prefix + name in tensors}


def known_of(conditions, rows):
    """The pixels that an inpainting record keeps, of its first rows."""
    return tuple(conditions[n][:rows] for n in ("inpaint_image", "inpaint_mask") if n in conditions) or None


def assert_trajectory(ours, record):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-3 * max(1.0, record.abs().max().item())


@pytest.mark.parametrize("name", ["base", "inpaint"])
def test_ancestral_sampling_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/ddpm/")
    with torch.no_grad():
        text = net.encode_text(tensors["in/ddpm/tokens"], tensors["in/ddpm/mask"])
    denoiser = guided(partial(net, text=text, **conditions), 3.0)
    draw = partial(next, (noise[:1] for noise in tensors["in/ddpm/noise"]))
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", 12)
    ours = sample(denoiser, scheduler, draw, known=known_of(conditions, rows=1))
    assert_trajectory(ours, tensors["out/ddpm"])


@pytest.mark.parametrize("name", ["upsample", "upsample_inpaint"])
def test_ddim_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/")
    denoiser = partial(net, tokens=tensors["in/tokens"], mask=tensors["in/mask"], **conditions)
    ours = sample(
        denoiser,
        make_scheduler("ddim", "linear", "fast27"),
        lambda: tensors["in/ddim/noise"],
        temperature=0.997,
        known=known_of(conditions, rows=2),
    )
    assert_trajectory(ours, tensors["out/ddim"])


def test_a_sample_does_not_depend_on_its_batch(golden):
    net, tensors = original(golden, "base")

    def pictures(seed, count):
        tokens, mask = (tensors[n][:1].expand(count, -1) for n in ("in/tokens", "in/mask"))
        draw = normal_draws(seeded_generators(seed, count), (3, 16, 16))
        return sample(partial(net, tokens=tokens, mask=mask), make_scheduler("ddpm", spacing=6), draw)

    batch, alone = pictures(7, 5), pictures(10, 1)
    assert (batch[3] - alone[0]).abs().max() <= 1 / 255
    assert (batch[2] - alone[0]).abs().max() > 0.1


MEAN, STD = 0.1, 0.25


def gaussian_denoiser(schedule):
    """The exact noise in x when every pixel of the data is normal with MEAN and STD."""
    alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas(schedule)))

    def denoiser(x, timesteps):
        a = alphas_cumprod[timesteps[0]]
        epsilon = (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)
        return torch.cat([epsilon, torch.full_like(x, -1.0)], dim=1)

    return denoiser


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(
    ("sampler", "steps", "bound"), [("unipc", 20, 0.01), ("dpm++", 20, 0.01), ("ddim", 250, 0.02)]
)
def test_deterministic_samplers_reach_the_exact_solution(sampler, steps, bound, schedule):
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    scheduler = make_scheduler(sampler, schedule, steps)
    assert len(scheduler.timesteps) == steps
    ours = sample(gaussian_denoiser(schedule), scheduler, lambda: x)
    # The probability flow of a Gaussian only shifts and scales.
    assert (ours - (MEAN + STD * x)).abs().max() < bound
    again = sample(gaussian_denoiser(schedule), scheduler, lambda: x)
    assert torch.equal(ours, again)


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 250), ("sde-dpm++", 20)])
def test_ancestral_samples_have_the_datas_mean_and_deviation(sampler, steps):
    draw = normal_draws(seeded_generators(0, 2), (3, 32, 32))
    ours = sample(gaussian_denoiser("linear"), make_scheduler(sampler, "linear", steps), draw)
    assert abs(ours.mean() - MEAN) < 0.005
    assert abs(ours.std() - STD) < 0.015


def test_each_step_is_reported_and_can_be_replaced():
    seen = []

    def on_step(step, timestep, x):
        seen.append((step, timestep))
        return torch.full_like(x, 0.5) if step == 4 else None

    draw = normal_draws(seeded_generators(0, 1), (3, 4, 4))
    scheduler = make_scheduler("ddim", "linear", 5)
    ours = sample(gaussian_denoiser("linear"), scheduler, draw, on_step=on_step)
    assert seen == list(enumerate([999, 749, 500, 250, 0]))
    assert (ours == 0.5).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_pixels_stay(sampler):
    image = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    draw = normal_draws(seeded_generators(0, 1), (3, 4, 4))
    scheduler = make_scheduler(sampler, spacing=10)
    ours = sample(gaussian_denoiser("squaredcos_cap_v2"), scheduler, draw, known=(image, mask))
    torch.testing.assert_close(ours[..., :2], image[..., :2])


def test_guidance_extrapolates_the_noise_and_keeps_the_conditional_variance():
    def denoiser(x, timesteps):
        return torch.tensor([3.0, 1.0]).view(2, 1, 1, 1).expand(2, 6, 4, 4) * timesteps.view(2, 1, 1, 1)

    out = guided(denoiser, 2.5)(torch.zeros(1, 3, 4, 4), torch.tensor([10]))
    assert out.shape == (1, 6, 4, 4)
    assert (out[:, :3] == 60).all()
    assert (out[:, 3:] == 30).all()
    assert guided(denoiser, 1) is denoiser
    assert guided(denoiser, None) is denoiser
