"""Training of GLIDE's noise-aware CLIP, from shards to a part of a model."""

import json

import pytest
import torch
from maquette.diffusion import NoisedClip
from maquette.diffusion.training.noised_clip_stage import NoisedClipStage
from maquette.toybox.shards import write_shards
from maquette.training import TrainConfig, fit
from maquette.weights.load_saved import load_saved

TINY = {
    "max_text_len": 24,
    "n_embd": 16,
    "n_head_text": 2,
    "n_head_state_text": 16,
    "n_xf_blocks_text": 1,
    "n_head_image": 2,
    "n_head_state_image": 16,
    "n_xf_blocks_image": 1,
    "image_size": 64,
    "patch_size": 16,
    "logit_scale": 20.0,
}


def config(model=TINY, steps=2, **stage):
    recipe = {"steps": steps, "batch_size": 8, "learning_rate": 3e-3, "validation_samples": 0, "warmup": 0}
    return TrainConfig(**recipe, model=model, stage=stage)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 8, folder, workers=1)
    return str(folder / "shard-00000.tar")


def test_it_learns_which_text_is_whose(shards, tmp_path):
    recipe = config(steps=60)
    fit(NoisedClipStage(recipe), recipe, shards, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


def test_it_is_saved_beside_what_it_guides_and_gone_on_from(shards, tmp_path):
    recipe = config(base="mini")
    folder = fit(NoisedClipStage(recipe), recipe, shards, tmp_path / "run")
    assert {path.name for path in folder.iterdir()} == {
        "clip_tokenizer", "model_index.json", "noised_clip", "text_encoder", "tokenizer", "unet", "upsampler"
    }  # fmt: skip
    saved = load_saved(NoisedClip, folder / "noised_clip", torch.float32)
    again = NoisedClipStage(config(model={}, start_from=str(folder))).model
    assert again.config["logit_scale"] == 20
    for name, weight in saved.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "schedule": "linear"}))
    for stage in ({"start_from": str(folder)}, {"base": str(folder)}):
        kept = NoisedClipStage(config(model={} if "start_from" in stage else TINY, **stage))
        assert kept.settings.schedule == "linear"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="has schedule 'squaredcos_cap_v2', but this training 'linear'"):
        NoisedClipStage(config(model={}, start_from=str(folder), schedule="linear"))


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match=r"mini has image_size 64, but this training 32"):
        NoisedClipStage(config(model={**TINY, "image_size": 32}, base="mini"))
    with pytest.raises(ValueError, match=r"mini.glide has no noised_clip, only"):
        NoisedClipStage(config(start_from="mini"))
