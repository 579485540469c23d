"""GLIDE's loss, its fast group norm, and a training run from shards to a picture."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from maquette import pipeline
from maquette.diffusion import betas
from maquette.diffusion.loss import HybridLoss
from maquette.diffusion.train import GlideStage, random_masks
from maquette.layers.group_norm import group_norm_silu
from maquette.toybox.shards import write_shards
from maquette.training import TrainConfig, fit
from torch.distributions import Normal, kl_divergence

TINY = {
    "image_size": 16,
    "model_channels": 32,
    "channel_mult": [1, 1],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "num_head_channels": 32,
    "text_ctx": 24,
    "xf_width": 32,
    "xf_layers": 1,
    "xf_heads": 2,
    "inpaint": True,
}


def hybrid_case(t):
    draw = torch.Generator().manual_seed(t)
    x0 = torch.rand(2, 3, 8, 8, generator=draw) * 1.6 - 0.8
    noise, output = (
        torch.randn(2, 3, 8, 8, generator=draw),
        torch.randn(2, 6, 8, 8, generator=draw).requires_grad_(),
    )
    timesteps = torch.full((2,), t)
    loss = HybridLoss()
    x = loss.add_noise(x0, timesteps, noise)
    return x0, x, noise, output, loss(output, x0, x, timesteps, noise)


@pytest.mark.parametrize("t", [1, 300, 999])
def test_bound_is_the_divergence_of_the_true_step(t):
    x0, x, noise, output, (error, bound) = hybrid_case(t)
    beta = torch.from_numpy(betas("squaredcos_cap_v2"))
    bar = torch.cumprod(1 - beta, 0)
    now, before, b = bar[t], bar[t - 1], beta[t]

    def mean(x0):
        return (before.sqrt() * b * x0 + (1 - b).sqrt() * (1 - before) * x) / (1 - now)

    smallest = b * (1 - before) / (1 - now)
    share = (output[:, 3:].double() + 1) / 2
    variance = torch.exp(share * b.log() + (1 - share) * smallest.log())
    guess = ((x - (1 - now).sqrt() * output[:, :3]) / now.sqrt()).clamp(-1, 1)
    kl = kl_divergence(Normal(mean(x0), smallest.sqrt()), Normal(mean(guess), variance.sqrt()))
    expected = kl.flatten(1).mean(1) / math.log(2)
    torch.testing.assert_close(bound.double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(error, (output[:, :3] - noise).square().flatten(1).mean(1))


def test_the_bound_trains_the_variance_only():
    *_, output, (_, bound) = hybrid_case(0)
    (gradient,) = torch.autograd.grad(bound.sum(), output)
    assert gradient[:, :3].abs().max() == 0
    assert gradient[:, 3:].abs().max() > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("modulated", [False, True])
def test_fast_group_norm_has_the_gradients_of_the_plain_one(modulated, dtype, tolerance):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 64, 6, 10, generator=draw) * 2 + 1
    norm = torch.nn.GroupNorm(32, 64)
    for parameter in norm.parameters():
        parameter.data += 0.3 * torch.randn(64, generator=draw)
    scale, shift = 0.3 * torch.randn(2, 3, 64, generator=draw)
    upstream = torch.randn(x.shape, generator=draw)

    def gradients(dtype, function):
        copy = torch.nn.GroupNorm(32, 64).to(dtype)
        copy.load_state_dict(norm.state_dict())
        leaves = [t.to(dtype).requires_grad_() for t in (x, scale, shift)]
        leaves[0] = leaves[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        modulation = leaves[1:] if modulated else []
        out = function(leaves[0], copy, *modulation)
        inputs = [leaves[0], *copy.parameters(), *modulation]
        return [out, *torch.autograd.grad(out, inputs, upstream.to(dtype))]

    def plain(x, norm, scale=None, shift=None):
        h = norm(x)
        return F.silu(h if scale is None else h * (1 + scale[..., None, None]) + shift[..., None, None])

    fast, exact = gradients(dtype, group_norm_silu), gradients(torch.float32, plain)
    for ours, reference in zip(fast, exact, strict=True):
        assert (ours.float() - reference).norm() <= tolerance * reference.norm()


@given(st.integers(1, 9), st.sampled_from([8, 16, 64]), st.floats(0, 1), st.integers(0, 2**31))
def test_masks_hide_one_box_or_everything(n, side, share, seed):
    mask = random_masks(n, side, share, torch.Generator().manual_seed(seed))
    assert mask.shape == (n, 1, side, side)
    for hidden in 1 - mask[:, 0]:
        rows, columns = hidden.any(1), hidden.any(0)
        assert hidden.sum() == rows.sum() * columns.sum() > 0


def test_from_shards_to_a_picture(tmp_path):
    write_shards("train", 12, tmp_path / "data", workers=1)
    shards = str(tmp_path / "data" / "shard-00000.tar")
    config = TrainConfig(steps=2, batch_size=4, learning_rate=1e-3, validation_samples=4, model=TINY)
    folder = fit(GlideStage(config), config, shards, tmp_path / "run")
    picture = pipeline("text-to-image", folder)("a red chair", seed=0, num_inference_steps=2).images[0]
    assert picture.size == (16, 16)
    assert (tmp_path / "run" / "samples" / "step-00000002.png").is_file()
    again = TrainConfig(
        steps=1,
        batch_size=4,
        learning_rate=1e-3,
        validation_samples=4,
        model={**TINY, "image_size": 32, "start_from": str(folder)},
    )
    trained = pipeline("text-to-image", folder, dtype=torch.float32).unet.state_dict()
    for name, weight in GlideStage(again).model.state_dict().items():
        assert torch.equal(weight, trained[name])


def test_an_unknown_key_of_the_recipe_is_named():
    config = TrainConfig(steps=1, batch_size=1, learning_rate=1e-3, model={**TINY, "chanel_mult": [1]})
    with pytest.raises(ValueError, match="'chanel_mult'"):
        GlideStage(config)


def test_a_missing_start_is_named(tmp_path):
    config = TrainConfig(
        steps=1, batch_size=1, learning_rate=1e-3, model={**TINY, "start_from": str(tmp_path / "none")}
    )
    with pytest.raises(FileNotFoundError, match="none holds no trained network"):
        GlideStage(config)
