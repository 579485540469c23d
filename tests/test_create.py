"""From words to pictures in Python: what a call takes, gives and refuses."""

import numpy as np
import pytest
import torch
from maquette.diffusion.schedules import SAMPLERS
from maquette.pipelines import GlidePipeline, PromptWarning, pipeline
from tiny_models import tiny_glide


@pytest.fixture(scope="module")
def pipe():
    pipe = tiny_glide()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_picture_is_the_same_alone_in_a_batch_and_elsewhere_in_it(pipe):
    def draw(prompt, seed, count=1):
        return pipe(prompt, seed=seed, num_images_per_prompt=count, output_type="np").images

    alone = draw("a red chair", 7)[0]
    assert np.abs(draw("a red chair", 3, count=5)[4] - alone).max() <= 1 / 255
    assert np.abs(draw(["a blue table", "a red chair"], 6)[1] - alone).max() <= 1 / 255
    assert np.abs(draw("a red chair", 8)[0] - alone).max() > 0.05
    assert np.abs(draw("a blue table", 7)[0] - alone).max() > 0.005


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_every_sampler_makes_pictures_in_few_steps(pipe, sampler, steps):
    other = GlidePipeline(pipe.unet, pipe.tokenizer, sampler=sampler)
    other.set_progress_bar_config(disable=True)
    images = other("a red chair", num_inference_steps=steps, seed=0, output_type="pt").images
    assert images.shape == (1, 3, 16, 16) and images.isfinite().all() and images.std() > 0.01


def test_output_types_show_the_same_picture(pipe):
    pil, array, tensor = (pipe("a cat", seed=1, output_type=kind).images for kind in ("pil", "np", "pt"))
    assert pil[0].size == (16, 16) and pil[0].mode == "RGB"
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    assert np.array_equal(np.asarray(pil[0]), np.round(array[0] * 255))


def test_generators_stand_for_seeds(pipe):
    generators = [torch.Generator().manual_seed(5), torch.Generator().manual_seed(6)]
    given = pipe("a cat", num_images_per_prompt=2, generator=generators, output_type="pt").images
    assert torch.equal(given, pipe("a cat", num_images_per_prompt=2, seed=5, output_type="pt").images)


def test_the_callback_sees_and_replaces_every_step(pipe):
    seen = []

    def grey(pipeline, step, timestep, kwargs):
        seen.append((pipeline, step, timestep))
        return {"latents": torch.zeros_like(kwargs["latents"])}

    image = pipe("a cat", seed=0, callback_on_step_end=grey, output_type="np").images
    assert [step for _, step, _ in seen] == [0, 1, 2] and all(each is pipe for each, _, _ in seen)
    assert 1000 > seen[0][2] > seen[1][2] > seen[2][2] >= 0
    assert (image == 0.5).all()


def test_guidance_one_runs_the_conditional_half_only(pipe):
    rows = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    pipe("a cat", guidance_scale=1, num_inference_steps=1)
    pipe("a cat", guidance_scale=2, num_inference_steps=1)
    hook.remove()
    assert rows == [1, 2]


@pytest.mark.parametrize(
    ("prompt", "word"), [("Elephant " * 1200, "'elephant'"), ("a " + "x" * 10_000, f"'{'x' * 40}…'")]
)
def test_a_long_prompt_is_cut_off_with_a_warning(pipe, prompt, word):
    with pytest.warns(PromptWarning, match=f"longer than the 8 tokens .* cut off at the word {word}"):
        assert len(pipe(prompt, num_inference_steps=1).images) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": ["a cat", " \n"]}, "prompt is empty"),
        ({"prompt": []}, "no prompt"),
        ({"prompt": "a cat", "num_images_per_prompt": 0}, "from 1 to 10000, not 0"),
        ({"prompt": "a cat", "num_inference_steps": 0}, "from 1 to 1000, not 0"),
        ({"prompt": "a cat", "num_inference_steps": 1001}, "from 1 to 1000, not 1001"),
        ({"prompt": "a cat", "num_inference_steps": 2.5}, "from 1 to 1000, not 2.5"),
        ({"prompt": "a cat", "guidance_scale": float("nan")}, "guidance scale must be a number"),
        ({"prompt": "a cat", "guidance_scale": "3"}, "guidance scale must be a number"),
        ({"prompt": "a cat", "seed": -1}, "seed must be"),
        ({"prompt": "a cat", "seed": 2**63}, "seed must be"),
        ({"prompt": "a cat", "seed": 1, "generator": torch.Generator()}, "give one of them"),
        ({"prompt": "a cat", "generator": [torch.Generator()] * 2}, "1 pictures were asked for with 2"),
        ({"prompt": "a cat", "output_type": "jpeg"}, "known are pil, np, pt"),
    ],
)
def test_bad_requests_are_refused_before_sampling(pipe, arguments, message, monkeypatch):
    monkeypatch.setattr(pipe.unet, "forward", None)
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)


def test_a_saved_pipeline_draws_the_same_pictures(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    pipe.save_pretrained(tmp_path / "model")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "model/model_index.json",
        "model/tokenizer/tokenizer.json",
        "model/unet/config.json",
        "model/unet/diffusion_pytorch_model.safetensors",
    ]
    again = pipeline("text-to-image", tmp_path / "model", dtype=torch.float32, device="cpu")
    again.set_progress_bar_config(disable=True)
    assert again.config["guidance_scale"] == 2.5
    ours, theirs = (p("a cat", seed=3, output_type="pt").images for p in (pipe, again))
    assert torch.equal(ours, theirs)


def test_a_training_folder_without_subfolders_loads(pipe, tmp_path):
    pipe.unet.save_pretrained(tmp_path)
    pipe.tokenizer.save(tmp_path / "tokenizer.json")
    again = GlidePipeline.from_pretrained(tmp_path, dtype=torch.bfloat16, device="cpu")
    assert again.dtype == torch.bfloat16 and not again.unet.training


def test_weights_of_another_network_are_refused(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    config = tmp_path / "unet" / "config.json"
    config.write_text(config.read_text().replace('"num_res_blocks": 1', '"num_res_blocks": 2'))
    with pytest.raises(ValueError, match=r"do not fit GlideUNet: input_blocks.* \(missing\)"):
        GlidePipeline.from_pretrained(tmp_path)
