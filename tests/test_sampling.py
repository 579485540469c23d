"""Sampling against the original's trajectories, and that a sample does not depend on its batch."""

from functools import partial

import numpy as np
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import (
    GlideUNet,
    clip_guided,
    clipped,
    dynamically_clipped,
    from_epsilon,
    from_x0,
    guided,
    keep_known,
    make_scheduler,
    normal_draws,
    sample,
    scale_between,
    seeded_generators,
    tiled,
    x0_guided,
)
from maquette.diffusion.schedules import SAMPLERS, betas


def original(golden, name):
    manifest, tensors = golden(f"glide/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return GlideUNet.from_original(weights, manifest["config"]), tensors


def conditions_of(tensors, prefix):
    names = ("low_res", "inpaint_image", "inpaint_mask")
    return {name: tensors[prefix + name] for name in names if prefix + name in tensors}


def denoiser_of(network, scheduler, conditions, rows, guidance=1.0):
    """As GLIDE samples: guided, then with the pixels that a record keeps, then clipped."""
    denoise = guided(from_epsilon(network, scheduler.alphas_cumprod), guidance)
    if "inpaint_mask" in conditions:
        denoise = keep_known(denoise, *(conditions[n][:rows] for n in ("inpaint_image", "inpaint_mask")))
    return clipped(denoise)


def assert_trajectory(ours, record):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-3 * max(1.0, record.abs().max().item())


@pytest.mark.parametrize("name", ["base", "inpaint"])
def test_ancestral_sampling_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/ddpm/")
    with torch.no_grad():
        text = net.encode_text(tensors["in/ddpm/tokens"], tensors["in/ddpm/mask"])
    draw = partial(next, (noise[:1] for noise in tensors["in/ddpm/noise"]))
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", 12)
    denoise = denoiser_of(partial(net, text=text, **conditions), scheduler, conditions, 1, guidance=3.0)
    ours = sample(denoise, scheduler, draw(), draw)
    assert_trajectory(ours, tensors["out/ddpm"])


@pytest.mark.parametrize("name", ["upsample", "upsample_inpaint"])
def test_ddim_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/")
    network = partial(net, tokens=tensors["in/tokens"], mask=tensors["in/mask"], **conditions)
    scheduler = make_scheduler("ddim", "linear", "fast27")
    denoise = denoiser_of(network, scheduler, conditions, 2)
    ours = sample(denoise, scheduler, 0.997 * tensors["in/ddim/noise"], no_draw)
    assert_trajectory(ours, tensors["out/ddim"])


def no_draw():
    raise AssertionError("a deterministic sampler draws nothing")


def test_a_sample_does_not_depend_on_its_batch(golden):
    net, tensors = original(golden, "base")

    def pictures(seed, count):
        tokens, mask = (tensors[n][:1].expand(count, -1) for n in ("in/tokens", "in/mask"))
        draw = normal_draws(seeded_generators(seed, count), (3, 16, 16))
        scheduler = make_scheduler("ddpm", spacing=6)
        denoise = denoiser_of(partial(net, tokens=tokens, mask=mask), scheduler, {}, count)
        return sample(denoise, scheduler, draw(), draw)

    batch, alone = pictures(7, 5), pictures(10, 1)
    assert (batch[3] - alone[0]).abs().max() <= 1 / 255
    assert (batch[2] - alone[0]).abs().max() > 0.1


MEAN, STD = 0.1, 0.25


def gaussian_network(schedule):
    """The exact noise in x when every number of the data is normal with MEAN and STD, and the smallest variance."""
    alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas(schedule)))

    def network(x, timesteps):
        a = alphas_cumprod[timesteps[0]]
        epsilon = (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)
        return torch.cat([epsilon, torch.full_like(x, -1.0)], dim=1)

    return network


def gaussian_sample(sampler, schedule, steps, x=None, draw=no_draw, **arguments):
    scheduler = make_scheduler(sampler, schedule, steps)
    assert len(scheduler.timesteps) == steps
    denoise = clipped(from_epsilon(gaussian_network(schedule), scheduler.alphas_cumprod))
    return sample(denoise, scheduler, draw() if x is None else x, draw, **arguments)


@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(
    ("sampler", "steps", "bound"), [("unipc", 20, 0.01), ("dpm++", 20, 0.01), ("ddim", 250, 0.02)]
)
def test_deterministic_samplers_reach_the_exact_solution(sampler, steps, bound, schedule):
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    ours = gaussian_sample(sampler, schedule, steps, x)
    # The probability flow of a Gaussian only shifts and scales.
    assert (ours - (MEAN + STD * x)).abs().max() < bound
    assert torch.equal(ours, gaussian_sample(sampler, schedule, steps, x))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3000,), (6, 500)])
@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 250), ("sde-dpm++", 20)])
def test_ancestral_samples_of_any_shape_have_the_datas_mean_and_deviation(sampler, steps, shape):
    ours = gaussian_sample(sampler, "linear", steps, draw=normal_draws(seeded_generators(0, 2), shape))
    assert abs(ours.mean() - MEAN) < 0.015
    assert abs(ours.std() - STD) < 0.02


@pytest.mark.parametrize("sampler", ["dpm++", "unipc"])
def test_begun_with_a_picture_at_a_late_step_it_stays_near_it(sampler):
    scheduler = make_scheduler(sampler, "linear", 20)
    x0, noise = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    x0 = MEAN + STD * x0
    x = scheduler.add_noise(x0, noise, start := 17)
    ours = gaussian_sample(sampler, "linear", 20, x, start=start)
    far = gaussian_sample(sampler, "linear", 20, noise)
    likeness = [torch.corrcoef(torch.stack([some.flatten(), x0.flatten()]))[0, 1] for some in (ours, far)]
    assert likeness[0] > 0.8 and abs(likeness[1]) < 0.1


def test_each_step_is_reported_and_can_be_replaced():
    seen = []

    def on_step(step, timestep, x, x0):
        seen.append((step, timestep))
        if step == 4:  # the last step goes to x0
            torch.testing.assert_close(x, x0)
        return torch.full_like(x, 0.5) if step == 4 else None

    ours = gaussian_sample("ddim", "linear", 5, torch.randn(1, 3, 4, 4), on_step=on_step)
    assert seen == list(enumerate([999, 749, 500, 250, 0]))
    assert (ours == 0.5).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_known_pixels_stay(sampler):
    image = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    draw = normal_draws(seeded_generators(0, 1), (3, 4, 4))
    scheduler = make_scheduler(sampler, spacing=10)
    network = gaussian_network("squaredcos_cap_v2")
    denoise = clipped(keep_known(from_epsilon(network, scheduler.alphas_cumprod), image, mask))
    ours = sample(denoise, scheduler, draw(), draw)
    torch.testing.assert_close(ours[..., :2], image[..., :2])


def test_guidance_extrapolates_and_keeps_the_conditional_variance():
    def network(x, timesteps):
        value = torch.tensor([3.0, 1.0]).view(2, 1, 1) * timesteps.view(2, 1, 1)
        return torch.cat([value.expand_as(x), 5 * value.expand_as(x)], dim=1)

    x0, variance = guided(from_x0(network), 2.5)(torch.zeros(1, 6, 7), torch.tensor([10]))
    assert x0.shape == variance.shape == (1, 6, 7)
    assert (x0 == 60).all() and (variance == 150).all()
    denoise = from_x0(network)
    assert guided(denoise, 1) is denoise and guided(denoise, None) is denoise


def test_guidance_may_vary_over_steps_and_computes_no_more_than_it_needs():
    calls = []

    def network(value):
        def run(x, timesteps):
            calls.append((value, len(x)))
            return torch.full_like(x, value)

        return from_x0(run)

    def both(x, timesteps):
        calls.append(("both", len(x)))
        return torch.cat(
            [torch.full_like(half, value) for half, value in zip(x.chunk(2), (3.0, 1.0), strict=True)]
        )

    alphas_cumprod = np.array([0.99, 0.8, 0.5, 0.01])  # noise levels of 0.1, 0.5, 1, 9.9
    varying = scale_between(2.0, (0.4, 1.0), alphas_cumprod)
    denoise = guided(from_x0(both), varying, conditional=network(3.0), unconditional=network(1.0))
    assert [denoise(torch.zeros(1, 1), torch.tensor([t]))[0].item() for t in range(4)] == [3, 5, 5, 3]
    assert calls == [(3.0, 1), ("both", 2), ("both", 2), (3.0, 1)]
    assert scale_between(0.0, (0.4, 1.0), alphas_cumprod)(0) == 0  # without the words on the whole way
    calls.clear()
    for scale in (0, 1):
        guided(from_x0(both), scale, network(3.0), network(1.0))(torch.zeros(1, 1), torch.tensor([0]))
    assert calls == [(1.0, 1), (3.0, 1)]


def test_a_shift_of_x0_is_as_large_as_what_is_unknown():
    denoise = x0_guided(lambda x, timesteps: (x, None), lambda x0: 2 * x0, np.array([0.9, 0.4]))
    x0, _ = denoise(torch.ones(2, 3, 4), torch.tensor([0, 1]))
    torch.testing.assert_close(x0, torch.tensor([1.2, 2.2]).view(2, 1, 1).expand(2, 3, 4))


def test_dynamic_thresholding_scales_down_what_saturates():
    x0 = torch.stack([torch.linspace(-4, 4, 9), torch.linspace(-0.5, 0.5, 9)])[:, None]
    ours, _ = dynamically_clipped(lambda x, timesteps: (x, None), 0.5)(x0, torch.tensor([0, 0]))
    torch.testing.assert_close(ours[0, 0], torch.linspace(-2, 2, 9).clamp(-1, 1))
    assert torch.equal(ours[1], x0[1])


@pytest.mark.parametrize("size", [(8, 8), (9, 16), (20, 31)])
def test_tiles_cover_a_picture_and_blend(size):
    asked = []

    def denoise_at(top, left):
        asked.append((top, left))
        rows, columns = torch.arange(top, top + 8.0), torch.arange(left, left + 8.0)
        place = rows[:, None] + 100 * columns
        # What each tile says of a pixel: what is right there, and how far off the middle of the tile it is.
        off = torch.outer((torch.arange(8) - 3.5).sign(), torch.ones(8))
        return lambda x, timesteps: (x + place, off.expand_as(x))

    x = torch.randn(2, 3, *size)
    x0, variance = tiled(denoise_at, 8)(x, torch.tensor([5, 5]))
    torch.testing.assert_close(x0, x + torch.arange(size[0])[:, None] + 100 * torch.arange(size[1]))
    assert variance.shape == x.shape and variance.abs().max() == 1
    # Between tiles there is no jump from one's opinion to the other's.
    assert size == (8, 8) or variance.diff(dim=2).abs().max() <= 2
    assert len(asked) == (1 if size == (8, 8) else 2 * 3 if size == (9, 16) else 3 * 5)


def test_a_network_without_variance_and_one_of_a_wrong_shape():
    x, timesteps = torch.randn(2, 4), torch.tensor([3, 500])
    assert from_x0(lambda x, t: x)(x, timesteps)[1] is None
    with pytest.raises(ValueError, match="expected C or 2C channels"):
        from_x0(lambda x, t: x[:, :3])(x, timesteps)


@pytest.mark.parametrize("place, beta_share", [(-1.0, 0.0), (0.5, 0.75), (None, 0.0)])
def test_a_gradient_moves_the_mean_of_an_ancestral_step_by_its_variance(place, beta_share):
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", 20)
    scheduler.start()
    timestep, following = scheduler.timesteps[3:5]
    alpha_bar, previous = (float(scheduler.alphas_cumprod[t]) for t in (timestep, following))
    largest = 1 - alpha_bar / previous
    smallest = largest * (1 - previous) / (1 - alpha_bar)
    x, x0, gradient = torch.randn(3, 2, 3, 4, 4)
    variance = None if place is None else torch.full_like(x, place)
    moved = clip_guided(lambda x, t: (x0, variance), lambda x, t: gradient, scheduler)(
        x, torch.tensor([timestep, timestep])
    )
    means = (scheduler.step(3, x, some, variance, lambda: torch.zeros_like(x)) for some in (moved[0], x0))
    shift = next(means) - next(means)
    torch.testing.assert_close(
        shift, smallest ** (1 - beta_share) * largest**beta_share * gradient, atol=1e-6, rtol=1e-4
    )


def test_a_shifted_score_moves_a_gaussian():
    """Guided towards a target by the exact gradient, an exact sampler ends in the product of both normals."""
    alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas("linear")))
    target, width = 0.6, 0.25

    def gradient(x, timesteps):
        """Of log p(target | x): x0 given x is normal, and the target is x0 plus normal noise of `width`."""
        a = alphas_cumprod[timesteps[0]]
        spread = 1 / (1 / STD**2 + a / (1 - a))
        mean = spread * (MEAN / STD**2 + a.sqrt() * x / (1 - a))
        return (target - mean) / (width**2 + spread) * spread * a.sqrt() / (1 - a)

    scheduler = make_scheduler("ddim", "linear", 250)
    denoise = from_epsilon(gaussian_network("linear"), alphas_cumprod)
    ours = sample(clip_guided(denoise, gradient, scheduler), scheduler, torch.randn(4, 3, 32, 32), no_draw)
    expected = (MEAN / STD**2 + target / width**2) / (1 / STD**2 + 1 / width**2)
    assert abs(ours.mean() - expected) < 0.01
    assert abs(ours.std() - (1 / STD**2 + 1 / width**2) ** -0.5) < 0.01
