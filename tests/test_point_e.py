"""Words and pictures to clouds and meshes with Point-E in Python: what calls take, give and refuse."""

import inspect
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange
from maquette.clip import open_picture
from maquette.clip.preprocess import Preprocess
from maquette.diffusion import normal_draws, seeded_generators
from maquette.pipelines import PointEPipeline, pipeline
from maquette.pipelines.background import has_background, without_background
from maquette.pipelines.presets import PRESETS
from maquette.point_e import BASE, UPSAMPLE, as_clouds, sample_points
from PIL import Image
from tiny_models import tiny_glide, tiny_point_e, tiny_unclip


@pytest.fixture(scope="module")
def pipe():
    return tiny_point_e()


@pytest.fixture(scope="module")
def photos():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


def tensors(made):
    return torch.stack([cloud.to_tensor() for cloud in made.clouds])


def test_a_cloud_is_the_same_alone_in_a_batch_and_elsewhere_in_it(pipe, photos):
    alone = tensors(pipe(image=photos[0], seed=7))[0]
    assert alone.shape == (100, 6)
    several = pipe(image=photos[0], seed=5, num_images_per_prompt=3)
    assert [each["seed"] for each in several.settings] == ["5", "6", "7"]
    torch.testing.assert_close(tensors(several)[2], alone, rtol=0, atol=1e-3)
    torch.testing.assert_close(tensors(pipe(image=photos[::-1], seed=6))[1], alone, rtol=0, atol=1e-3)
    for other in (pipe(image=photos[1], seed=7), pipe(image=photos[0], seed=8)):
        assert (tensors(other)[0] - alone).abs().max() > 0.01


def test_the_original_preset_is_both_stages_as_recorded(pipe, photos):
    """`test_point_sampling` holds `sample_points` to the record, whose noise no seed gives."""
    made = pipe(image=photos[0], preset="original", num_inference_steps=5, seed=3)
    pixels = Preprocess.from_config(pipe.clip.config)(photos[0])[None]
    with torch.no_grad():
        grid = rearrange(pipe.clip.encode_image(pixels).grid, "n tokens width -> n width tokens")
    source = seeded_generators(3, 1)
    points = sample_points(pipe.base, replace(BASE, steps=5), normal_draws(source, (6, 40)), grid=grid)
    assert points.shape == (1, 6, 40)
    points = sample_points(pipe.upsampler, UPSAMPLE, normal_draws(source, (6, 60)), grid=grid, low_res=points)
    torch.testing.assert_close(tensors(made), as_clouds(points), rtol=0, atol=1e-4)
    assert made.settings[0].items() >= {"preset": "original", "steps": "5", "guidance": "3.0"}.items()


def test_the_original_preset_says_what_there_is_to_say():
    defaults = {name: each.default for name, each in inspect.signature(PointEPipeline).parameters.items()}
    of_sampling = ("_sampler", "_steps", "_sigmas", "_churn")
    assert PRESETS["point-e"]["original"].keys() == {
        name for name in defaults if name.endswith(of_sampling) or "guidance_" in name
    }


def test_the_surface_model_stays_exact_when_a_pipeline_is_cast():
    pipe = tiny_point_e()
    before = {name: weight.clone() for name, weight in pipe.surface.state_dict().items()}
    assert pipe.to(torch.bfloat16).base.dtype == torch.bfloat16
    assert all(torch.equal(weight, before[name]) for name, weight in pipe.surface.state_dict().items())


def test_a_cloud_may_have_another_number_of_points(pipe, photos):
    made = pipe(image=photos[0], points=20)
    assert tensors(made).shape == (1, 20 + 60, 6) and made.settings[0]["points"] == "20"
    for points in (0, 10**12):
        with pytest.raises(ValueError, match=f"must be a whole number from 1 to 16384, not {points}"):
            pipe(image=photos[0], points=points)


def test_words_become_a_picture_first(photos):
    pipe = tiny_point_e(picture_prompt="a red {}")
    with pytest.raises(ValueError, match="reads no words; give a picture, or a text-to-image pipeline as"):
        pipe("chair", seed=2)
    pipe.painter = tiny_glide()
    pipe.painter.set_progress_bar_config(disable=True)
    made = pipe("chair", num_images_per_prompt=2, seed=2)
    drawn = pipe.painter("a red chair", seed=3).images[0]
    assert np.array_equal(np.asarray(made.pictures[1]), np.asarray(drawn))
    again = tensors(pipe(image=drawn, seed=3))[0]
    torch.testing.assert_close(tensors(made)[1], again, rtol=0, atol=1e-3)
    assert made.settings[1].items() >= {"prompt": "chair", "seed": "3", "picture_by": "GlidePipeline"}.items()
    one = torch.Generator().manual_seed(2)
    assert len(pipe("chair", generator=one).clouds) == 1


@pytest.mark.parametrize("conditioning", ["vector", "grid"])
def test_a_base_may_read_words_itself(conditioning):
    pipe = tiny_point_e(conditioning, reads_words=True)
    made = pipe(["a red chair", "a blue table"], seed=0)
    assert made.pictures is None and len(made.clouds) == 2
    assert (tensors(pipe("a blue table", seed=0))[0] - tensors(made)[0]).abs().max() > 1e-3
    with pytest.warns(UserWarning, match="longer than the 24 tokens"):
        pipe("chair " * 40, seed=0)
    pipe.register_to_config(reads_pictures=False)
    with pytest.raises(ValueError, match="reads words and no pictures"):
        pipe(image=Image.new("RGB", (9, 9)))


def test_an_unconditional_base_is_given_nothing(photos):
    pipe = tiny_point_e("none")
    assert len(pipe(num_images_per_prompt=2, seed=0).clouds) == 2
    with pytest.raises(ValueError, match="reads nothing; give neither"):
        pipe("a chair")
    alone = PointEPipeline(pipe.base, num_inference_steps=2)
    alone.set_progress_bar_config(disable=True)
    assert len(alone(seed=0).clouds[0]) == 40


def test_a_path_is_its_picture(pipe, photos, tmp_path):
    photos[0].save(tmp_path / "photo.png")
    assert torch.equal(
        tensors(pipe(image=str(tmp_path / "photo.png"), seed=7)), tensors(pipe(image=photos[0], seed=7))
    )


def test_steps_and_batches_are_reported(pipe, photos):
    seen, batches = [], []

    def on_step(of, step, level, given):
        seen.append((step, given["stage"], tuple(given["latents"].shape)))
        return {"latents": torch.zeros_like(given["latents"])} if len(seen) == 7 else None

    made = pipe(image=photos[0], seed=0, callback_on_step_end=on_step, callback_on_batch_end=batches.append)
    assert [stage for _, stage, _ in seen] == ["base"] * 4 + ["upsampler"] * 3
    assert [step for step, *_ in seen] == list(range(7)) and seen[0][2] == (1, 6, 40)
    assert (made.clouds[0].coords[40:] == 0).all()
    assert len(batches) == 1 and batches[0].clouds[0] is made.clouds[0]


def test_a_mesh_of_each_cloud(pipe, photos):
    made = pipe(image=photos, seed=0, mesh=True, grid_size=16)
    assert len(made.meshes) == 2 and len(made.meshes[0].faces) > 0
    without = PointEPipeline(pipe.base, pipe.clip, pipe.tokenizer)
    with pytest.raises(ValueError, match="has no surface model and makes no meshes"):
        without(image=photos[0], mesh=True)


def test_a_saved_model_serves_both_tasks(pipe, photos, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    again = pipeline("image-to-3d", tmp_path / "model", dtype=torch.float32)
    ask = {"image": photos[0], "seed": 1}
    torch.testing.assert_close(tensors(again(**ask)), tensors(pipe(**ask)), rtol=0, atol=1e-3)
    tiny_glide().save_pretrained(tmp_path / "glide")
    settings = json.loads((tmp_path / "model" / "model_index.json").read_text())
    settings |= {"glide_model": str(tmp_path / "glide"), "unclip_model": "glide"}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(settings))
    assert len(pipeline("text-to-3d", tmp_path / "model")("a red chair", seed=0).clouds) == 1
    with pytest.raises(ValueError, match="unknown way 'dalle'"):
        pipeline("text-to-3d", tmp_path / "model", via="dalle")
    with pytest.raises(ValueError, match="glide has no unCLIP"):
        pipeline("text-to-3d", tmp_path / "model", via="unclip")
    shutil.rmtree(tmp_path / "model" / "upsampler")
    with pytest.raises(OSError, match="upsampler"):
        pipeline("image-to-3d", tmp_path / "model")
    settings.pop("base")
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(settings))
    with pytest.raises(
        ValueError, match="has nothing as base; PointEPipeline wants PointDiffusionTransformer"
    ):
        pipeline("image-to-3d", tmp_path / "model")


def test_bad_calls_and_parts_are_named(pipe, photos):
    for arguments, message in (
        ({}, "nothing to make a shape of"),
        ({"prompt": "a chair", "image": photos[0]}, "both a prompt and a picture"),
        ({"image": photos[0], "preset": "orignal"}, "did you mean 'original'"),
        ({"image": photos[0], "num_images_per_prompt": 0}, "the number of samples"),
        ({"image": []}, "nothing to make a shape of"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe(**arguments)
    with pytest.raises(TypeError, match="expected a PIL picture or a path, got int"):
        pipe(image=[photos[0], 3])
    whole = pipe.clip, pipe.tokenizer
    for parts, settings, message in (
        ((pipe.upsampler, *whole), {}, "is an upsampler; give a base network"),
        ((pipe.base,), {}, "give the CLIP that it was trained with, and its tokenizer"),
        ((pipe.base, tiny_unclip().clip, pipe.tokenizer), {"base_sampler": "hein"}, "did you mean 'heun'"),
        ((tiny_point_e("vector").base, *whole), {"upsampler_steps": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            PointEPipeline(*parts, **settings)


def test_backgrounds_are_told_from_plain_ground(photos, tmp_path):
    plain = Image.new("RGB", (40, 30), "white")
    plain.paste("red", (10, 5, 30, 30))
    clear = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert has_background(photos[0])
    assert not has_background(plain) and not has_background(open_picture(tmp_path / "clear.png"))
    with pytest.raises(ModuleNotFoundError, match="pip install 'rembg"):
        without_background(photos[0])
