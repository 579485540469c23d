"""Training of GLIDE's upsampler: what it is given, and a run from shards to a part of a model."""

import json

import pytest
import torch
from maquette.diffusion import GlideUNet
from maquette.diffusion.training.low_res import degraded, reduced
from maquette.diffusion.training.upsampler_stage import UpsamplerStage
from maquette.toybox.shards import write_shards
from maquette.training import TrainConfig, fit
from maquette.weights.load_saved import load_saved
from tiny_models import tiny_glide

TINY = {
    "image_size": 32,
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
    "patch_size": 4,
}


def config(model=TINY, **stage):
    recipe = {"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "validation_samples": 2}
    return TrainConfig(**recipe, model=model, stage={"crop": 16, **stage})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 6, folder, size=32, workers=1)
    return str(folder / "shard-00000.tar")


def test_reduced_is_the_mean_of_squares_in_8_bits():
    picture = torch.tensor([[0.0, 1.0], [2.0, 2.0]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    picture[0, 0] = 255.0
    small = reduced(picture.expand(1, 3, 8, 8) / 127.5 - 1, 4)
    expected = torch.tensor([[16.0, 1.0], [2.0, 2.0]])
    torch.testing.assert_close((small[0, 0] + 1) * 127.5, expected)


def test_degrading_blurs_and_noises_each_picture_by_its_own_amount():
    picture = torch.zeros(8, 3, 16, 16)
    picture[..., 8, 8] = 1.0
    blurred = degraded(picture, 1.0, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(8, 3))
    assert len(blurred[:, 0, 8, 8].unique()) > 4
    noised = degraded(torch.zeros(8, 3, 16, 16), 0.0, 0.1, torch.Generator().manual_seed(0)).flatten(1).std(1)
    assert noised.max() < 0.11
    assert noised.std() > 0.01


def test_crops_lie_on_whole_pixels_of_the_small_picture():
    stage = UpsamplerStage(config(blur=0.0, noise=0.0))
    columns = torch.arange(32, dtype=torch.uint8).expand(4, 3, 32, 32)
    crops, given = stage.conditions(columns, torch.Generator().manual_seed(1))
    first = ((crops[:, 0, 0, 0] + 1) * 127.5).round()
    assert (first % 4 == 0).all()
    assert len(first.unique()) > 1
    torch.testing.assert_close(given["low_res"], reduced(crops, 4))


def test_from_shards_to_a_part_beside_its_base(shards, tmp_path):
    tiny_glide().save_pretrained(base := tmp_path / "base")
    recipe = config(base=str(base))
    folder = fit(UpsamplerStage(recipe), recipe, shards, tmp_path / "run")
    index = json.loads((folder / "model_index.json").read_text())
    assert {"unet", "tokenizer", "upsampler"} <= index.keys()
    assert index["upsampler_schedule"] == "linear"
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (folder / weights).read_bytes() == (base / weights).read_bytes()
    upsampler = load_saved(GlideUNet, folder / "upsampler", torch.float32)
    again = UpsamplerStage(config(model={}, start_from=str(folder)))
    for name, weight in again.model.state_dict().items():
        assert torch.equal(weight, upsampler.state_dict()[name])
    with pytest.raises(ValueError, match="reads texts in another way than base"):
        UpsamplerStage(config(model={}, start_from=str(folder), base="mini"))
    again.save(again.model, tmp_path / "again")
    assert (tmp_path / "again" / weights).read_bytes() == (base / weights).read_bytes()
    assert (tmp_path / "run" / "samples" / "step-00000002.png").is_file()


def test_it_reads_a_frozen_clip_and_is_saved_alone(shards, tmp_path):
    recipe = config(clip="mini")
    folder = fit(UpsamplerStage(recipe), recipe, shards, tmp_path / "run")
    assert {path.name for path in folder.iterdir()} == {
        "model_index.json", "text_encoder", "tokenizer", "upsampler"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "sentence"),
    [
        ({"crop": 12}, "multiples of 8"),
        ({"crop": 64}, "multiples of 8, crop the smaller"),
        ({"base": "mini", "clip": "mini"}, "as its base does"),
        ({"base": "mini"}, "image_size is 32, but the unet of mini makes 64 px"),
    ],
)
def test_what_does_not_go_together_is_refused(stage, sentence):
    with pytest.raises(ValueError, match=sentence):
        UpsamplerStage(config(**stage))


def test_a_model_without_an_upsampler_is_nothing_to_go_on_from(tmp_path):
    tiny_glide().save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="base has no upsampler"):
        UpsamplerStage(config(start_from=str(tmp_path / "base")))


def test_with_a_strength_only_the_lower_noise_is_learned_and_drawn_from():
    stage, seen = UpsamplerStage(config(strength=0.3)), []

    def model(x, timesteps, **given):
        seen.append(timesteps)
        return torch.zeros(len(x), 6, *x.shape[2:])

    tokens, mask = stage.reader.tokens(["a cube"] * 200, 24)
    batch = {"image": torch.zeros(200, 3, 32, 32, dtype=torch.uint8), "tokens": tokens, "mask": mask}
    stage.loss(model, batch, torch.Generator().manual_seed(0))
    assert 270 < seen[0].max() < 300
    assert stage.samples(stage.model) is not None


def test_what_goes_on_keeps_strength_and_schedule_unless_the_recipe_says_otherwise(tmp_path):
    further = {"model": {}, "start_from": str(tmp_path / "first")}
    for name, stage, strength, schedule in (
        ("first", {"strength": 0.3, "schedule": "squaredcos_cap_v2"}, 0.3, "squaredcos_cap_v2"),
        ("second", further, 0.3, "squaredcos_cap_v2"),
        ("third", {**further, "strength": 1.0, "schedule": "linear"}, 1.0, "linear"),
    ):
        trained = UpsamplerStage(config(**stage))
        trained.save(trained.model, tmp_path / name)
        index = json.loads((tmp_path / name / "model_index.json").read_text())
        assert (index["upsampler_strength"], index["upsampler_schedule"]) == (strength, schedule)
        assert trained.levels == 1000 * strength
