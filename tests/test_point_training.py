"""Point-E's stages of training: each from shards to a part that loads, and on from a checkpoint."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.point_e import (
    PointDiffusionTransformer,
    PointNetClassifier,
    PointUpsampler,
    SurfaceModel,
    as_clouds,
)
from maquette.point_e.text_grid import text_grid
from maquette.point_e.training.base_stage import PointStage
from maquette.point_e.training.classifier_stage import ClassifierStage, named_class
from maquette.point_e.training.clouds import random_points, read_cloud, scaled
from maquette.point_e.training.conditions import PointConditions
from maquette.point_e.training.surface_stage import SurfaceStage, read_distances
from maquette.point_e.training.upsampler_stage import PointUpsamplerStage
from maquette.point_e.transformer import CHANNEL_BIASES, CHANNEL_SCALES
from maquette.toybox.shards import write_shards
from maquette.toybox.vocabulary import THINGS
from maquette.training import Shards, TrainConfig, fit
from maquette.weights.load_saved import load_saved
from tiny_models import tiny_clip, whole_and_resumed

TINY = {"width": 32, "layers": 1, "heads": 2, "n_ctx": 48}
SURFACE = {"n_ctx": 48, "width": 32, "encoder_layers": 1, "encoder_heads": 1, "decoder_layers": 1}
STAGES = {
    "grid": (PointStage, "base", PointDiffusionTransformer, TINY, {"text_share": 0.5, "points": 16}),
    "vector": (PointStage, "base", PointDiffusionTransformer, {**TINY, "conditioning": "vector"}, {}),
    "text": (
        PointStage, "base", PointDiffusionTransformer, {**TINY, "conditioning": "vector"}, {"text_share": 1}
    ),
    "none": (PointStage, "base", PointDiffusionTransformer, {**TINY, "conditioning": "none"}, {}),
    "upsampler": (
        PointUpsamplerStage, "upsampler", PointUpsampler, {**TINY, "cond_ctx": 16, "octaves": 2}, {"low_res_points": 8}
    ),
    "surface": (SurfaceStage, "surface", SurfaceModel, {**SURFACE, "decoder_heads": 1, "octaves": 3}, {"places": 32}),
}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_shards("train", 6, folder, workers=1, clouds=True, distances=True)
    return str(folder / "shard-00000.tar")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip().save_pretrained(folder)
    return str(folder)


def config(model, **changes):
    values = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "validation_samples": 2, "sample_every": 5}
    return TrainConfig(**values | {"model": model, **changes})


@pytest.mark.parametrize("kind", STAGES)
def test_a_stage_resumes_and_saves_what_loads(shards, clip, tmp_path, kind):
    stage, part, network, model, settings = STAGES[kind]
    told = {} if kind == "surface" else {"clip": clip}
    recipe = config(model, stage={**settings, **told}, checkpoint_every=2)
    folder, again = whole_and_resumed(stage, recipe, shards, tmp_path, calls=3, saved=[2])
    others = set() if kind in ("none", "surface") else {"clip", "tokenizer"}
    assert {part, "model_index.json"} | others == {path.name for path in folder.iterdir()}
    ours, theirs = (load_saved(network, each / part, torch.float32).state_dict() for each in (folder, again))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize("kind", STAGES)
def test_an_unknown_key_of_a_network_is_named(clip, kind):
    stage, _, _, model, settings = STAGES[kind]
    with pytest.raises(ValueError, match=r"unknown key 'widht' under model:.*known are"):
        stage(config({**model, "widht": 64}, stage=settings | ({} if kind == "surface" else {"clip": clip})))


@pytest.mark.parametrize("kind", STAGES)
def test_more_points_than_clouds_have_are_refused_before_anything_is_written(clip, kind):
    stage, _, _, model, settings = STAGES[kind]
    told = settings | ({} if kind == "surface" else {"clip": clip}) | {"points": 5000}
    with pytest.raises(ValueError, match="less than or equal to 4096"):
        stage(config(model, stage=told))


def test_an_upsampler_goes_on_from_fewer_points_and_is_saved_into_a_base(clip, tmp_path):
    base = PointStage(config(TINY, stage={"clip": clip}))
    torch.nn.init.normal_(base.model.output_proj.weight)
    base.save(base.model, tmp_path / "base")
    model = {**TINY, "cond_ctx": 16}
    first = PointUpsamplerStage(config(model, stage={"clip": clip, "points": 8, "low_res_points": 8}))
    first.save(first.model, tmp_path / "first")
    start = {"clip": clip, "start_from": str(tmp_path / "first")}
    second = PointUpsamplerStage(config({"n_ctx": 96}, stage={**start, "base": str(tmp_path / "base")}))
    assert (second.points, second.model.config.cond_ctx) == (96, 16)
    second.save(second.model, tmp_path / "whole")
    assert {"base", "upsampler", "clip"} < {path.name for path in (tmp_path / "whole").iterdir()}
    with pytest.raises(ValueError, match="points, or else n_ctx, are 5000 points, but a cloud has 4096"):
        PointStage(config({**TINY, "n_ctx": 5000}, stage={"clip": clip}))
    with pytest.raises(ValueError, match="n_ctx and cond_ctx together are 4160 points, but a cloud has 4096"):
        few = {"points": 8, "low_res_points": 8}
        PointUpsamplerStage(config({**TINY, "n_ctx": 4096, "cond_ctx": 64}, stage={"clip": clip, **few}))
    with pytest.raises(ValueError, match="points and low_res_points together are 4500 points"):
        PointUpsamplerStage(config(model, stage={"clip": clip, "points": 3500, "low_res_points": 1000}))
    with pytest.raises(ValueError, match="has width 32, but model: in the recipe says 64"):
        PointUpsamplerStage(config({"width": 64}, stage=start))
    other = tiny_clip()
    other.encoder.token_embedding.weight.data.neg_()
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"base reads with another CLIP than .*other"):
        PointStage(config({}, stage={"clip": str(tmp_path / "other"), "start_from": str(tmp_path / "base")}))
    with pytest.raises(ValueError, match="has no base, only"):
        PointStage(config({}, stage=start))
    from_base = PointUpsamplerStage(
        config({"cond_ctx": 16}, stage={**start, "start_from": str(tmp_path / "base")})
    )
    assert torch.equal(from_base.model.output_proj.weight, base.model.output_proj.weight)
    assert (from_base.model.config.width, from_base.model.config.n_ctx) == (32, 3072)
    assert from_base.settings.schedule == "squaredcos_cap_v2"
    index = json.loads((tmp_path / "base" / "model_index.json").read_text())
    del index["base_schedule"]  # as a converted model has none
    (tmp_path / "base" / "model_index.json").write_text(json.dumps(index))
    converted = PointUpsamplerStage(config({}, stage={**start, "start_from": str(tmp_path / "base")}))
    assert converted.settings.schedule == "squaredcos_cap_v2"
    shown, told = from_base.targets(torch.rand(1, 4096, 6), torch.Generator(), few=False)
    assert (shown.shape[2], told["low_res"].shape[2]) == (1024, 16)
    with pytest.raises(FileNotFoundError, match="none"):
        PointStage(config(TINY, stage={"base": str(tmp_path / "none")}))


@pytest.mark.parametrize("kind", ["grid", "vector", "upsampler"])
def test_a_point_that_a_step_sees_stands_for_those_that_it_does_not(clip, kind):
    settings = {"clip": clip, "points": TINY["n_ctx"] // 2}
    if kind == "upsampler":
        model = {**TINY, "cond_ctx": 16}
        stage = PointUpsamplerStage(config(model, stage={**settings, "low_res_points": 8}))
    else:
        stage = PointStage(config({**TINY, "conditioning": kind}, stage=settings))
    net = stage.model.eval()
    torch.nn.init.normal_(net.output_proj.weight)
    given = stage.conditions.of_texts(["a red ball", "a blue cube"])
    few, all_of_them = stage.targets(torch.rand(2, 64, 6), torch.Generator())
    x, all_of_x = few, torch.cat([few, few], dim=2)
    low_res = {name: torch.cat([told, told], dim=2) for name, told in all_of_them.items()}
    times = torch.tensor([10, 900])
    with torch.no_grad():
        counts = net.token_counts(x.shape[2], {**given, **all_of_them})
        seen = net(x, times, **given, **all_of_them, counts=counts)
        whole = net(all_of_x, times, **given, **low_res)
    assert torch.allclose(seen, whole[:, :, : x.shape[2]], atol=1e-4)


@pytest.mark.parametrize("kind", ["grid", "vector"])
def test_each_sample_is_told_of_by_its_picture_its_caption_or_not_at_all(shards, clip, kind):
    conditions = PointConditions(kind, clip, 0.5)
    samples = [conditions.prepare(Shards(shards)[number]) for number in range(6)]
    batch = {name: torch.stack([sample[name] for sample in samples] * 8) for name in samples[0]}
    (given,) = conditions.arguments(batch, torch.Generator().manual_seed(0), 0.25).values()
    pictures, texts = conditions._of_pictures(batch), conditions._of_texts(batch)
    same = torch.stack([(given - each).flatten(1).abs().amax(1) < 1e-4 for each in (pictures, texts)])
    dropped = given.flatten(1).abs().amax(1) == 0
    assert (same.sum(0) + dropped == 1).all()
    assert min(*same.sum(1), dropped.sum()) >= 5


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 6))
def test_a_text_as_a_grid_ends_where_the_text_does(tokens, context, length):
    states = torch.rand(1, context, 3) + 1
    grid = text_grid(states, torch.tensor([length]), tokens)
    assert grid.shape == (1, 3, tokens)
    kept = min(tokens, context, length)
    assert torch.equal(grid[0, :, :kept].mT, states[0, :kept])
    assert not grid[0, :, kept:].any()


def test_random_points_are_different_ones_of_a_cloud_and_scale_back():
    clouds = torch.rand(2, 40, 6)
    clouds[..., 3:] = (255 * clouds[..., 3:]).round() / 255
    points = random_points(clouds, 40, torch.Generator().manual_seed(0))
    scales, biases = torch.tensor(CHANNEL_SCALES)[:, None], torch.tensor(CHANNEL_BIASES)[:, None]
    back = as_clouds((scaled(points) - biases) / scales)
    for cloud, found in zip(clouds, back, strict=True):
        torch.testing.assert_close(found[found[:, 0].argsort()], cloud[cloud[:, 0].argsort()])
    assert not torch.equal(back, clouds)
    with pytest.raises(ValueError, match="is to see 41 points, but a sample has 40"):
        random_points(clouds, 41, torch.Generator())


def sample(**arrays):
    files = {name: io.BytesIO() for name in arrays}
    for name, array in arrays.items():
        np.save(files[name], array)
    return {name.replace("_", "."): file.getvalue() for name, file in files.items()}


def test_clouds_and_distances_that_are_none_are_refused():
    good = np.full((5000, 6), 0.25, np.float16)
    assert read_cloud(sample(npy=good)).shape == (4096, 6)
    for bad, said in (
        (good[:9], "expected"),
        (good[:, :3], "expected"),
        (good * 255, "scale it"),
        (good * np.nan, "scale it"),
    ):
        with pytest.raises(ValueError, match=said):
            read_cloud(sample(npy=bad))
    with pytest.raises(ValueError, match="has no npy"):
        read_cloud({})
    assert read_distances(sample(distances_npy=good[:, :4])).shape == (4096, 4)
    for bad, said in ((good, "expected"), (good[:, :4] * np.inf, "not all finite")):
        with pytest.raises(ValueError, match=said):
            read_distances(sample(distances_npy=bad))
    with pytest.raises(ValueError, match=r"has no distances\.npy"):
        read_distances({})


def test_a_clip_without_a_fitting_grid_is_refused(tmp_path, clip):
    from maquette.clip import ClipModel

    narrow = ClipModel.from_pretrained(clip)
    encoder = type(narrow.encoder)(**{**narrow.encoder.config, "transformer_width": 16})
    ClipModel(encoder, narrow.tokenizer).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ValueError, match="has 16 and 32 channels"):
        PointConditions("grid", str(tmp_path / "narrow"), 0.5)


def test_a_classifier_learns_from_captions_and_is_saved_with_its_classes(tmp_path):
    (path,) = write_shards("train", 12, tmp_path / "singles", workers=1, clouds=True, things=1)
    recipe = config({"width_mult": 0.125}, stage={"classes": THINGS, "points": 512}, precision="float32")
    with pytest.raises(ValueError, match="add precision: float32"):
        ClassifierStage(recipe.model_copy(update={"precision": "auto"}))
    folder = fit(ClassifierStage(recipe), recipe, str(path), tmp_path / "run")
    net = load_saved(PointNetClassifier, folder, torch.float32)
    assert tuple(net.config["classes"]) == THINGS
    assert net(torch.rand(2, 3, 512)).log_probabilities.shape == (2, len(THINGS))


def test_a_caption_names_one_class():
    assert named_class("a small red car", ("cat", "car")) == 1
    for caption in ("a red carpet", "a car and a cat"):
        with pytest.raises(ValueError, match="should name one of the classes"):
            named_class(caption, ("cat", "car"))
