"""unCLIP's stages of training: each from shards to a part that loads, and on from a checkpoint."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.clip import ClipModel
from maquette.diffusion import GlideUNet, seeded_generators
from maquette.diffusion.training.clip_conditions import ClipConditions
from maquette.pipelines import UnCLIPPipeline
from maquette.toybox.shards import write_shards
from maquette.training import Shards, TrainConfig, fit
from maquette.training.shards import add_sample
from maquette.unclip import AutoregressivePrior, DiffusionPrior, UnCLIPDecoder
from maquette.unclip.large_upsampler import LargeUpsampler
from maquette.unclip.training.autoregressive_stage import AutoregressiveStage
from maquette.unclip.training.decoder_stage import DecoderStage
from maquette.unclip.training.embed_shards import embed_shards
from maquette.unclip.training.prior_stage import PriorStage
from maquette.unclip.training.upsampler_stage import LargeUpsamplerStage
from maquette.weights.load_saved import load_saved
from maquette.weights.model_folder import find_model, part_folder, read_index
from tiny_models import TINY_CLIP, tiny_clip, tiny_glide, whole_and_resumed

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
AUTOREGRESSIVE = {**PRIOR, "dimensions": 4, "buckets": 8, "similarities": 4}
LARGE = {"image_size": 32, "model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": 1}
STAGES = {
    "prior": (PriorStage, DiffusionPrior, PRIOR),
    "autoregressive": (AutoregressiveStage, AutoregressivePrior, AUTOREGRESSIVE),
    "decoder": (DecoderStage, UnCLIPDecoder, DECODER),
    "large_upsampler": (LargeUpsamplerStage, LargeUpsampler, LARGE),
}


def config(model, **changes):
    values = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3, "validation_samples": 4}
    return TrainConfig(**values | {"model": model, **changes})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 12, folder, workers=1)
    return str(folder / "shard-00000.tar")


@pytest.fixture(scope="module")
def embedded(shards, tmp_path_factory):
    (path,) = embed_shards(shards, tmp_path_factory.mktemp("embedded"))
    return str(path)


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_resumes_and_saves_what_loads(embedded, tmp_path, kind):
    stage, network, model = STAGES[kind]

    part = "prior" if kind == "autoregressive" else kind
    settings = {"crop": 16} if kind == "large_upsampler" else {}
    recipe = config(model, stage=settings, checkpoint_every=2)
    folder, again = whole_and_resumed(stage, recipe, embedded, tmp_path, calls=3, saved=[2])
    clip = set() if kind == "large_upsampler" else {"clip", "tokenizer"}
    assert {part, "model_index.json"} | clip == {path.name for path in folder.iterdir()}
    ours, theirs = (load_saved(network, each / part, torch.float32).state_dict() for each in (folder, again))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("kind", STAGES)
def test_an_unknown_key_of_a_network_is_named(kind):
    stage, _, model = STAGES[kind]
    with pytest.raises(ValueError, match=r"unknown key 'widht' under model:.*known are"):
        stage(config({**model, "widht": 64}))


@pytest.mark.parametrize("kind", ["prior", "autoregressive"])
def test_two_stages_make_one_model_that_draws(tmp_path, kind):
    stage, network, model = STAGES[kind]
    prior = stage(config(model))
    prior.save(prior.model, tmp_path / "prior")
    decoder = DecoderStage(config(DECODER, stage={"base": str(tmp_path / "prior")}))
    decoder.save(decoder.model, tmp_path / "whole")
    pipe = UnCLIPPipeline.from_pretrained(tmp_path / "whole", num_inference_steps=2, prior_steps=2)
    assert isinstance(pipe.prior, network)
    together = pipe(["a red chair", "a blue car"], seed=1, output_type="pt").images
    alone = pipe("a blue car", seed=2, output_type="pt").images
    assert together.shape == (2, 3, 16, 16)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=0.02)
    with pytest.raises(FileNotFoundError, match="none"):
        DecoderStage(config(DECODER, stage={"base": str(tmp_path / "none")}))


def test_vectors_are_kept_beside_pictures_and_are_the_same_as_computed_ones(shards, embedded, tmp_path):
    clip = ClipConditions("mini")
    raw, kept = Shards(shards), Shards(embedded)
    assert [sample.key for sample in raw.samples] == [sample.key for sample in kept.samples]
    assert kept.samples[3].parts.keys() - raw.samples[3].parts.keys() == {"clip.npy"}
    assert (clip.check(raw), clip.check(kept)) == (False, True)
    computed, cached = (clip.look_at(each)[0] for each in (raw, kept))
    torch.testing.assert_close(cached, computed, rtol=0, atol=0.05 * computed.std().item())
    second = shutil.copy(shards, tmp_path / "shard-00000.tar")
    both = embed_shards(f"{{{shards},{second}}}", tmp_path / "both")
    assert len({path.read_bytes() for path in both}) == 1
    assert len(Shards(both)) == 2 * len(raw)
    before = Path(embedded).stat().st_mtime_ns
    embed_shards(shards, Path(embedded).parent)
    assert Path(embedded).stat().st_mtime_ns == before
    with tarfile.open(second, "w") as tar:
        for number in range(len(raw)):
            add_sample(tar, raw.samples[number].key, {**parts_of(raw[number]), "txt": b"another"})
    with pytest.raises(ValueError, match="made of other samples"):
        embed_shards(second, Path(embedded).parent)


def parts_of(sample):
    return {name: content for name, content in sample.items() if not name.startswith("__")}


def test_vectors_that_do_not_belong_are_refused(shards, embedded, tmp_path):
    tiny_clip().save_pretrained(tmp_path / "tiny")
    clip = ClipConditions(str(tmp_path / "tiny"))
    with pytest.raises(ValueError, match=r"the vectors of .*tiny have 16 numbers"):
        clip.check(Shards(embedded))
    with pytest.raises(ValueError, match=r"has no clip\.npy and others have"):
        ClipConditions("mini").check(Shards([embedded, shards]))
    encoder = tiny_clip().encoder
    other = ClipModel(
        type(encoder)(**{**TINY_CLIP, "embed_dim": 256, "vocab_size": 444}), tiny_clip().tokenizer
    )
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="was not made by the CLIP"):
        ClipConditions(str(tmp_path / "other")).check(Shards(embedded))
    with pytest.raises(ValueError, match="has the vectors of another CLIP"):
        embed_shards(shards, Path(embedded).parent, str(tmp_path / "other"))
    with pytest.raises(ValueError, match="would be written over"):
        embed_shards(shards, Path(shards).parent)


def test_a_part_is_saved_into_an_unclip_of_its_own_clip_alone(tmp_path):
    prior = PriorStage(config(PRIOR, stage={"base": "mini"}))
    prior.save(prior.model, tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"].startswith("UnCLIP") and {"prior", "decoder", "clip"} <= index.keys()
    tiny_clip().save_pretrained(tmp_path / "tiny")
    tiny_glide().save_pretrained(tmp_path / "glide")
    for stage, said in (
        ({"clip": str(tmp_path / "tiny"), "base": "mini"}, "mini reads with another CLIP than"),
        ({"base": str(tmp_path / "glide")}, "glide is a GlidePipeline and no unCLIP"),
    ):
        with pytest.raises(ValueError, match=said):
            PriorStage(config(PRIOR, stage=stage))


@pytest.mark.parametrize("kind", ["prior", "autoregressive"])
def test_a_prior_goes_on_from_a_models(embedded, tmp_path, kind):
    stage, _, model = STAGES[kind]
    recipe = config(model)
    fit(stage(recipe), recipe, embedded, tmp_path / "first")
    start = {"start_from": str(tmp_path / "first" / "model")}
    again = stage(config({}, stage=start))
    before = load_saved(type(again.model), tmp_path / "first" / "model" / "prior", torch.float32).state_dict()
    again.begin(Shards(embedded))
    assert all(torch.equal(weight, before[name]) for name, weight in again.model.state_dict().items())
    whole = stage(config({}, stage={"start_from": "mini"})) if kind == "prior" else again
    whole.save(whole.model, tmp_path / "whole")
    assert (tmp_path / "whole" / "decoder").is_dir() == (kind == "prior")
    with pytest.raises(ValueError, match="has xf_width 32, but model: in the recipe says 64"):
        stage(config({"xf_width": 64}, stage=start))
    other = AutoregressiveStage if kind == "prior" else PriorStage
    with pytest.raises(ValueError, match=f"is a {type(again.model).__name__}, not a"):
        other(config({}, stage=start))


@pytest.mark.parametrize(("stage", "model"), [(PriorStage, PRIOR), (DecoderStage, DECODER)])
def test_what_goes_on_keeps_the_schedule(tmp_path, stage, model):
    first = stage(config(model, stage={"schedule": "linear"}))
    first.save(first.model, tmp_path / "first")
    start = {"start_from": str(tmp_path / "first")}
    assert stage(config({}, stage=start)).settings.schedule == "linear"
    assert stage(config({}, stage={**start, "schedule": "squaredcos_cap_v2"})).settings.schedule != "linear"


def test_a_decoder_goes_on_at_another_size(embedded, tmp_path):
    small = config(DECODER)
    stage = DecoderStage(small)
    stage.save(stage.model, tmp_path / "small")
    start = {"start_from": str(tmp_path / "small")}
    large = DecoderStage(config({"image_size": 32}, stage=start)).model
    assert list(large.config["attention_resolutions"]) == [8]
    for name, weight in stage.model.state_dict().items():
        assert torch.equal(large.state_dict()[name], weight)
    with pytest.raises(ValueError, match="upsampler of mini makes 256 px, and this decoder draws 512"):
        DecoderStage(config({"image_size": 512}, stage={"start_from": "mini"}))
    with pytest.raises(ValueError, match="has num_channels 32, but model: in the recipe says 64"):
        DecoderStage(config({"num_channels": 64}, stage=start))


def test_a_picture_left_out_is_the_embedding_of_none():
    decoder = loud(DecoderStage(config(DECODER)).model)
    x, timesteps, vectors = torch.randn(2, 3, 16, 16), torch.tensor([3, 900]), torch.randn(2, 256)
    text = {"text_embedding": torch.randn(2, 256), "text_states": torch.randn(2, 24, 192)}
    with torch.no_grad():
        ours = decoder(x, timesteps, vectors, **text, has_image=torch.tensor([True, False]))
        none = torch.stack([vectors[0], decoder.cf_param])
        torch.testing.assert_close(ours, decoder(x, timesteps, none, **text))
        assert (ours - decoder(x, timesteps, vectors, **text))[1].abs().max() > 1e-3


def loud(network):
    """A network whose every weight counts."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.dim() < 2 else parameter[0].numel() ** -0.5)
    return network.eval()


def autoregressive(**changes):
    prior = AutoregressivePrior(6, 32, 2, 2, 12, 10, **{"dimensions": 5, "buckets": 16, **changes})
    generator = torch.Generator().manual_seed(1)
    prior.fit(*torch.randn(2, 64, 12, generator=generator))
    return loud(prior)


def texts(n):
    generator = torch.Generator().manual_seed(2)
    return {
        "text_embedding": torch.randn(n, 12, generator=generator),
        "text_states": torch.randn(n, 6, 10, generator=generator),
        "mask": torch.arange(6) < torch.tensor([6, 3, 1, 4])[:n, None],
    }


@given(st.integers(2, 64), st.integers(1, 12), st.integers(0, 2**31))
def test_quantising_loses_at_most_half_a_bucket(buckets, dimensions, seed):
    data = torch.randn(20, 12, generator=torch.Generator().manual_seed(seed))
    prior = AutoregressivePrior(1, 8, 1, 1, 12, 8, dimensions, buckets)
    prior.fit(data, data)
    found = prior.quantise(data)
    assert found.min() >= 0
    assert found.max() < buckets
    error = ((prior.dequantise(found) - data) @ prior.axes.T).abs()
    half = (prior.highest - prior.lowest) / buckets / 2
    assert (error <= 1.001 * half + 1e-5).all()
    assert torch.equal(prior.quantise(prior.dequantise(found)), found)
    assert (prior.highest - prior.lowest).shape == (dimensions,)


def test_components_stand_in_the_order_of_what_they_tell():
    data = torch.randn(500, 12) * torch.linspace(1, 5, 12)
    prior = AutoregressivePrior(1, 8, 1, 1, 12, 8, 6)
    prior.fit(data, data)
    spread = (data @ prior.axes.T).std(0)
    assert (spread.diff() < 0).all()


@torch.no_grad()
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_sampling_with_a_cache_follows_the_whole_sequences_logits(guidance_scale):
    prior, text = autoregressive(), texts(4)
    wordless = {name: part.flip(0) for name, part in text.items()}
    given = {"guidance_scale": guidance_scale, "wordless": wordless}
    ours = prior.sample(**text, generators=seeded_generators(5, 4), **given)
    generators, found = seeded_generators(5, 4), torch.zeros(4, 5, dtype=torch.long)
    similarity = torch.tensor([int(torch.randint(8, 16, (), generator=g)) for g in generators])
    for place in range(5):
        logits = prior(found, similarity, **text)[:, place]
        if guidance_scale != 1:
            logits = torch.lerp(
                prior(found, torch.full((4,), 16), **wordless)[:, place], logits, guidance_scale
            )
        chance = torch.tensor([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
        found[:, place] = (logits.double().softmax(-1).cumsum(-1) <= chance[:, None]).sum(-1).clamp_max(15)
    torch.testing.assert_close(ours, prior.dequantise(found))
    assert len(found.unique()) > 5


@torch.no_grad()
def test_a_sample_depends_on_its_own_text_and_generator_alone():
    prior, text = autoregressive(), texts(4)
    together = prior.sample(**text, generators=seeded_generators(0, 4))
    alone = prior.sample(
        **{name: part[2:3] for name, part in text.items()}, generators=seeded_generators(2, 1)
    )
    torch.testing.assert_close(together[2:3], alone)
    assert (together.std(0) > 0).all()


# mini's GLIDE, as the decoder says it.
MINI = {
    **{
        "num_channels": 64,
        "channel_mult": [1, 2, 3],
        "num_res_blocks": 1,
        "patch_size": 2,
        "norm_num_groups": 8,
    },
    **{"attention_resolutions": [16, 8], "num_head_channels": 32, "xf_width": 192},
}


def test_a_decoder_begins_with_the_u_net_of_a_glide_model(tmp_path):
    had = load_saved(GlideUNet, part_folder(find_model("mini", "text-to-image"), "unet"), torch.float32)
    decoder = DecoderStage(config({**MINI, "text_ctx": 24}, stage={"glide": "mini"})).model.eval()
    x, t = torch.randn(1, 3, 64, 64), torch.tensor([400])
    unseen = {"inpaint_image": torch.zeros_like(x), "inpaint_mask": torch.zeros(1, 1, 64, 64)}
    width = {"projection": torch.randn(1, 256), "states": torch.randn(1, 5, 192)}
    ours = decoder.denoise(x, t, decoder.condition(**width))
    torch.testing.assert_close(ours, had(x, t, text=had.condition(**width), **unseen))
    mini = find_model("mini", "text-to-image")
    (tmp_path / "unet").symlink_to(part_folder(mini, "unet"))
    (tmp_path / "model_index.json").write_text(json.dumps({**read_index(mini), "schedule": "linear"}))
    linear = DecoderStage(config({**MINI, "text_ctx": 24}, stage={"glide": str(tmp_path)}))
    assert linear.settings.schedule == "linear"
    with pytest.raises(ValueError, match="drop one of them"):
        DecoderStage(config(DECODER, stage={"glide": "mini", "start_from": "mini"}))
    with pytest.raises(ValueError, match="another layout"):
        DecoderStage(config(DECODER, stage={"glide": "mini"}))


def test_with_a_text_transformer_a_decoder_begins_by_drawing_captions_as_glide_does():
    had = load_saved(GlideUNet, part_folder(find_model("mini", "text-to-image"), "unet"), torch.float32)
    decoder = DecoderStage(
        config({**MINI, "text_ctx": 48, "xf_layers": 2, "xf_heads": 6}, stage={"glide": "mini"})
    ).model.eval()
    width, mask = decoder.config["text_width"], torch.arange(48)[None] < 9
    states, vector = torch.randn(1, 48, width), torch.randn(1, decoder.config["clip_dim"])
    ours = decoder.encode_conditions(vector, vector, states, mask)
    theirs = had.encode_text(text_states=states, mask=mask)
    torch.testing.assert_close(ours.projection, theirs.projection)
    torch.testing.assert_close(ours.states[:, 4:], theirs.states)
    assert (ours.states[:, :4] == 0).all()
