"""GLIDE's loss, its fast group norm, and a training run from shards to a picture."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette import pipeline
from maquette.diffusion import betas
from maquette.diffusion.loss import HybridLoss
from maquette.diffusion.training.masks import random_masks
from maquette.diffusion.training.stage import GlideStage
from maquette.toybox.shards import write_shards
from maquette.training import TrainConfig, fit
from tiny_models import shown, whole_and_resumed
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


@given(st.integers(1, 9), st.sampled_from([8, 16, 64]), st.floats(0, 1), st.integers(0, 2**31))
def test_masks_hide_one_box_or_all_but_one_or_everything(n, side, share, seed):
    mask = random_masks(n, side, share, torch.Generator().manual_seed(seed))
    assert mask.shape == (n, 1, side, side)
    for known in mask[:, 0]:
        boxes = [part for part in (known, 1 - known) if part.sum() == part.any(1).sum() * part.any(0).sum()]
        assert boxes and known.sum() < side**2


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 12, folder, workers=1)
    return str(folder / "shard-00000.tar")


def config(**changes):
    values = {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "validation_samples": 4, "model": TINY}
    return TrainConfig(**values | changes)


def test_from_shards_to_a_picture(shards, tmp_path):
    folder = fit(GlideStage(config()), config(), shards, tmp_path / "run")
    picture = pipeline("text-to-image", folder)("a red chair", seed=0, num_inference_steps=2).images[0]
    assert picture.size == (16, 16)
    assert (tmp_path / "run" / "samples" / "step-00000002.png").is_file()
    again = config(model={**TINY, "image_size": 32}, stage={"start_from": str(folder)})
    trained = pipeline("text-to-image", folder, dtype=torch.float32).unet.state_dict()
    for name, weight in GlideStage(again).model.state_dict().items():
        assert torch.equal(weight, trained[name])


def test_resuming_after_a_crash_repeats_the_uninterrupted_run(shards, tmp_path):
    recipe = config(
        steps=5, micro_batch=2, checkpoint_every=2, validation_samples=0, stage={"snr_clamp": [0.02, 5]}
    )
    folders = whole_and_resumed(GlideStage, recipe, shards, tmp_path, calls=8, saved=[2])
    unets = [pipeline("text-to-image", folder, dtype=torch.float32).unet for folder in folders]
    ours, theirs = (unet.state_dict() for unet in unets)
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_what_is_wrong_in_a_recipe_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown key 'chanel_mult' under model:.*known are image_size"):
        GlideStage(config(model={**TINY, "chanel_mult": [1]}))
    with pytest.raises(ValueError, match=r"drop_txt\n.*not permitted"):
        GlideStage(config(stage={"drop_txt": 0.1}))
    with pytest.raises(OSError, match="none"):
        GlideStage(config(stage={"start_from": str(tmp_path / "none")}))
    with pytest.raises(ValueError, match="text_ctx is 128, but the CLIP reads 48 tokens"):
        GlideStage(config(model={**TINY, "text_ctx": 128}, stage={"clip": "mini"}))
    with pytest.raises(ValueError, match="image_size is 96, but the upsampler of mini makes 256 px"):
        GlideStage(config(model={"image_size": 96}, stage={"start_from": "mini"}))


def saved_base(tmp_path, **changes):
    """A model folder with a base network whose every weight counts."""
    torch.manual_seed(0)
    stage = GlideStage(config(model={**TINY, "inpaint": False, **changes}))
    shown(stage.model)
    stage.save(stage.model, tmp_path / "base")
    return stage.model.eval(), str(tmp_path / "base")


@pytest.mark.parametrize("patch_size", [1, 2])
def test_learning_to_inpaint_begins_with_what_the_base_computes(tmp_path, patch_size):
    base, folder = saved_base(tmp_path, patch_size=patch_size)
    stage = GlideStage(config(model={"inpaint": True}, stage={"start_from": folder}))
    x, timesteps = torch.randn(2, 3, 16, 16), torch.tensor([3, 900])
    text = stage.reader.inputs(*stage.reader.tokens(["a red chair", ""], 24))
    known = {"inpaint_image": torch.randn(2, 3, 16, 16), "inpaint_mask": torch.ones(2, 1, 16, 16)}
    with torch.no_grad():
        theirs = base(x, timesteps, **text)
        ours = stage.model.eval()(x, timesteps, **text, **known)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert theirs.std() > 0.1


def test_adapters_train_from_the_base_and_are_merged(shards, tmp_path):
    base, folder = saved_base(tmp_path)
    recipe = config(model={}, stage={"start_from": folder, "train": "lora", "lora_rank": 2})
    made = fit(GlideStage(recipe), recipe, shards, tmp_path / "run")
    tuned = pipeline("text-to-image", made, dtype=torch.float32).unet.state_dict()
    before = base.state_dict()
    changed = {name for name, weight in before.items() if not torch.equal(weight, tuned[name])}
    assert tuned.keys() == before.keys()
    assert "input_blocks.1.0.in_layers.2.weight" in changed
    assert "middle_block.1.qkv.weight" in changed
    assert "transformer.resblocks.0.mlp.c_fc.weight" in changed
    assert not [name for name in changed if name.endswith("bias") or name.startswith("input_blocks.0.")]


@pytest.mark.parametrize(
    ("model", "stage", "sentence"),
    [
        ({"model_channels": 64}, {}, "has model_channels 32, but model: in the recipe says 64"),
        ({"modl": 64}, {}, "unknown key 'modl'"),
        ({}, {"clip": "mini"}, "reads texts as it did; drop tokenizer and clip"),
    ],
)
def test_what_a_start_does_not_go_together_with_is_named(tmp_path, model, stage, sentence):
    folder = saved_base(tmp_path)[1]
    with pytest.raises(ValueError, match=sentence):
        GlideStage(config(model=model, stage={"start_from": folder, **stage}))
    with pytest.raises(ValueError, match="needs a trained model"):
        GlideStage(config(stage={"train": "lora"}))
