"""unCLIP's stages of training: each from shards to a part that loads, and on from a checkpoint."""

import pytest
import torch
from maquette.toybox.shards import write_shards
from maquette.training import TrainConfig, fit
from maquette.unclip import DiffusionPrior, UnCLIPDecoder
from maquette.unclip.training.decoder_stage import DecoderStage
from maquette.unclip.training.prior_stage import PriorStage
from maquette.weights.load_saved import load_saved

PRIOR = {"text_ctx": 24, "xf_width": 32, "xf_layers": 1, "xf_heads": 2}
DECODER = {
    "image_size": 16,
    "patch_size": 2,
    "num_channels": 32,
    "channel_mult": [1, 1],
    "num_res_blocks": 1,
    "attention_resolutions": [4],
    "num_head_channels": 32,
    "norm_num_groups": 8,
    "text_ctx": 24,
    "xf_width": 32,
}
STAGES = {
    "prior": (PriorStage, DiffusionPrior, PRIOR),
    "decoder": (DecoderStage, UnCLIPDecoder, DECODER),
}


def config(model, **changes):
    values = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "validation_samples": 4}
    return TrainConfig(**values | {"model": model, **changes})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 12, folder, workers=1)
    return str(folder / "shard-00000.tar")


class Crash(Exception):
    pass


@pytest.mark.parametrize("part", STAGES)
def test_a_stage_resumes_and_saves_what_loads(shards, tmp_path, part):
    stage, network, model = STAGES[part]

    class Crashing(stage):
        calls = 0

        def loss(self, *arguments):
            self.calls += 1
            if self.calls == 3:
                raise Crash
            return super().loss(*arguments)

    recipe = config(model, checkpoint_every=2, validate_every=0, sample_every=0)
    folder = fit(stage(recipe), recipe, shards, tmp_path / "whole")
    with pytest.raises(Crash):
        fit(Crashing(recipe), recipe, shards, tmp_path / "broken")
    again = fit(stage(recipe), recipe, shards, tmp_path / "broken", resume=True)
    assert {"clip", "tokenizer", part, "model_index.json"} == {path.name for path in folder.iterdir()}
    ours, theirs = (load_saved(network, each / part, torch.float32).state_dict() for each in (folder, again))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
