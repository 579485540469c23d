"""Inpainting in Python: known pixels stay, networks see what the original shows them, and what is refused."""

import numpy as np
import pytest
import torch
from maquette.pipelines import GlideInpaintPipeline, PromptWarning, pipeline
from PIL import Image
from tiny_models import tiny_glide, tiny_tokenizer, tiny_two_stages, tiny_unet


def inpainter(pipe):
    """The same model for inpainting, and quiet."""
    own = {"num_inference_steps": 2, "guidance_scale": 2.5, "upsampler_steps": 2}
    pipe = GlideInpaintPipeline(pipe.unet, pipe.tokenizer, upsampler=pipe.upsampler, **own)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipes():
    return {1: inpainter(tiny_glide()), 2: inpainter(tiny_two_stages())}


def photo(width, height, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("size", [(65, 131), (203, 67), (301, 157)])
def test_known_pixels_come_back_bit_for_bit(pipes, stages, size):
    image, mask = photo(*size), Image.new("L", size)
    mask.paste(255, (size[0] // 3, 11, size[0] // 2, size[1] // 2))
    mask.paste(140, (size[0] // 2, 11, size[0] // 2 + 3, size[1] // 2))
    made = pipes[stages]("a red chair", image, mask, num_images_per_prompt=2, seed=3)
    for picture in made.images:
        assert (picture.mode, picture.size) == ("RGB", size)
        same = (np.asarray(picture) == np.asarray(image)).all(2)
        hole = np.asarray(mask) > 0
        assert same[~hole].all() and same[hole].mean() < 0.05
    assert [each["seed"] for each in made.settings] == ["3", "4"] and made.images[0] != made.images[1]


@pytest.mark.parametrize("stages", [1, 2])
def test_a_photo_grows_by_expanding_it(pipes, stages):
    image = photo(71, 90)
    (picture,) = pipes[stages]("a red chair", image, expand=(5, 0, 9, 30), seed=0).images
    assert picture.size == (85, 120)
    assert np.array_equal(np.asarray(picture)[:90, 5:76], np.asarray(image))
    assert np.asarray(picture)[95:].std() > 5


def test_networks_see_what_the_originals_notebook_shows_them(pipes):
    pipe, image, seen = pipes[2], photo(64, 64), {}
    hooks = [
        network.register_forward_pre_hook(
            lambda m, args, kwargs: seen.__setitem__(m, kwargs), with_kwargs=True
        )
        for network in (pipe.unet, pipe.upsampler)
    ]
    x0 = {}
    pipe(
        "a red chair", image, box=(17, 8, 21, 40),
        callback_on_step_end=lambda pipe, step, timestep, given: x0.__setitem__(given["stage"], given["x0"]),
    )  # fmt: skip
    for hook in hooks:
        hook.remove()
    small, large = seen[pipe.unet], seen[pipe.upsampler]
    # The box covers columns 17 to 37, which lie under 4 to 9 of the base's 16, and rows 2 to 11.
    mask = torch.ones(1, 1, 16, 16)
    mask[..., 2:12, 4:10] = 0
    assert torch.equal(small["inpaint_mask"], mask.expand(2, -1, -1, -1))
    assert torch.equal(large["inpaint_mask"], mask.repeat_interleave(4, 2).repeat_interleave(4, 3))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(large["inpaint_image"][0], pixels * large["inpaint_mask"][0])
    assert torch.equal(small["inpaint_image"], small["inpaint_image"] * mask)
    for stage, kwargs in (("base", small), ("upsampler", large)):
        known = kwargs["inpaint_mask"][:1] == 1
        assert torch.equal(x0[stage] * known, kwargs["inpaint_image"][:1] * known)
    assert x0["base"].shape == (1, 3, 16, 16) and x0["upsampler"].shape == (1, 3, 64, 64)


def test_output_types_show_the_same_picture_and_batches_come_as_they_are_painted(pipes, monkeypatch):
    monkeypatch.setattr("maquette.pipelines.glide_stages.BATCH", 2)
    call = {"image": photo(80, 64), "box": (9, 9, 30, 30), "num_images_per_prompt": 3, "seed": 1}
    batches = []
    pil, array, tensor = (
        pipes[1]("a cat", **call, output_type=kind, callback_on_batch_end=batches.append).images
        for kind in ("pil", "np", "pt")
    )
    assert [len(batch.images) for batch in batches] == [2, 1] * 3
    assert batches[1].images == pil[2:] and batches[1].settings[0]["seed"] == "3"
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy()) and array.shape == (3, 64, 80, 3)
    assert np.array_equal(np.round(array * 255), np.stack([np.asarray(picture) for picture in pil]))


def test_a_saved_model_inpaints_by_task(pipes, tmp_path):
    pipes[2].save_pretrained(tmp_path / "model")
    again = pipeline("inpainting", tmp_path / "model", dtype=torch.float32, device="cpu")
    again.set_progress_bar_config(disable=True)
    call = {"image": photo(90, 70), "box": (30, 20, 20, 20), "seed": 0}
    assert again("a cat", **call).images == pipes[2]("a cat", **call).images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing says what to paint"),
        ({"prompt": " ", "expand": 1}, "prompt is empty"),
        ({"box": (0, 0, 99, 9)}, "reaches out of the photo"),
        ({"expand": 1, "preset": "fast"}, "unknown preset"),
        ({"expand": 1, "output_type": "jpeg"}, "known are pil, np, pt"),
        ({"expand": 1, "seed": -1}, "seed must be"),
    ],
)
def test_bad_requests_are_refused_before_sampling(pipes, arguments, message, monkeypatch):
    monkeypatch.setattr(pipes[1].unet, "forward", None)
    with pytest.raises(ValueError, match=message):
        pipes[1](**{"prompt": "a cat", "image": photo(64, 64), **arguments})


def test_a_model_that_cannot_inpaint_says_so():
    pipe = GlideInpaintPipeline(tiny_unet(image_size=16), tiny_tokenizer())
    with pytest.raises(ValueError, match="the model GlideInpaintPipeline cannot inpaint"):
        pipe("a cat", photo(64, 64), expand=1)


def test_a_long_prompt_is_cut_off_with_a_warning(pipes):
    with pytest.warns(PromptWarning, match="longer than the 8 tokens"):
        pipes[1]("elephant " * 99, photo(64, 64), expand=1)
