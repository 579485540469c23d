"""From words to pictures in Python: what a call takes, gives and refuses."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import GlideUNet
from maquette.diffusion.schedules import SAMPLERS
from maquette.pipelines import GlidePipeline, PromptWarning, pipeline
from maquette.pipelines.free_memory import rows_that_fit
from tiny_models import tiny_glide, tiny_tokenizer, tiny_two_stages


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


def test_settings_say_how_to_draw_each_picture_again(pipe):
    made = pipe(["a cat", "a dog"], num_images_per_prompt=2, seed=5, guidance_scale=2, num_inference_steps=1)
    assert [(each["prompt"], each["seed"]) for each in made.settings] == [
        ("a cat", "5"), ("a cat", "6"), ("a dog", "7"), ("a dog", "8"),
    ]  # fmt: skip
    assert made.settings[0].items() >= {"steps": "1", "guidance": "2.0", "model": "GlidePipeline"}.items()
    unseeded = pipe("a cat", num_inference_steps=1)
    again = pipe("a cat", num_inference_steps=1, seed=int(unseeded.settings[0]["seed"]))
    assert unseeded.images == again.images


def test_many_pictures_are_drawn_in_batches_and_stay_the_same(pipe, monkeypatch, capsys):
    whole = pipe("a cat", num_images_per_prompt=5, seed=4, output_type="pt").images
    monkeypatch.setattr("maquette.pipelines.glide_stages.BATCH", 2)
    rows = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    pipe.set_progress_bar_config(disable=False)
    parts = pipe("a cat", num_images_per_prompt=5, seed=4, output_type="pt").images
    pipe.set_progress_bar_config(disable=True)
    hook.remove()
    assert rows == [4] * 6 + [2] * 3
    assert (whole - parts).abs().max() <= 1 / 255
    said = capsys.readouterr().err
    assert "drawing 1 to 2 of 5" in said and "drawing 5 to 5 of 5" in said


@pytest.mark.skipif(not psutil.LINUX, reason="limits of a process are read on Linux")
def test_a_size_that_does_not_fit_into_memory_is_refused_with_one_that_does():
    import resource

    pipe, limits = tiny_two_stages(), resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**29, limits[1]))
    try:
        with pytest.raises(
            MemoryError, match=r"a picture of 4096 px takes about 3\.0 GiB .* a size of up to"
        ) as said:
            pipe("a cat", size=4096)
        fits = int(re.search(r"up to (\d+) fits", str(said.value))[1])
        assert 1000 < fits < 2000 and pipe.rows_at_once(fits - 100) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert rows_that_fit(16, 64, lambda side: side**2, 64**2 * 3 + 1) == 3
    with pytest.raises(MemoryError, match="end other programs, or take a smaller model"):
        rows_that_fit(1, 64, lambda side: 2**30, 2**29)


def test_threads_share_a_pipeline(pipe):
    def draw(seed):
        return pipe("a cat", seed=seed, num_images_per_prompt=seed % 3 + 1, output_type="pt").images

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, range(8)))
    assert all(torch.equal(images, draw(seed)) for seed, images in enumerate(together))


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
        ({"prompt": "a cat", "generator": [torch.Generator()] * 2}, "1 samples were asked for with 2"),
        ({"prompt": "a cat", "output_type": "jpeg"}, "known are pil, np, pt"),
    ],
)
def test_bad_requests_are_refused_before_sampling(pipe, arguments, message, monkeypatch):
    monkeypatch.setattr(pipe.unet, "forward", None)
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)


@pytest.mark.parametrize("prompt", [None, 3])
def test_what_is_no_text_is_refused(pipe, prompt):
    with pytest.raises(TypeError, match=f"must be a text or a list of texts, not {prompt}"):
        pipe(prompt)


def test_a_model_folder_that_is_not_whole_is_refused(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "unet")
    with pytest.raises(FileNotFoundError, match=r"not whole: there is no folder .*unet"):
        GlidePipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index\.json is damaged"):
        GlidePipeline.from_pretrained(tmp_path)


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


def test_only_a_model_is_replaced_by_a_saved_one(pipe, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(FileExistsError, match="something else than a model"):
        pipe.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]
    with pytest.raises(FileNotFoundError, match=r"not a model's folder: it has no model_index\.json"):
        GlidePipeline.from_pretrained(tmp_path)


def test_an_original_checkpoint_becomes_a_folder_that_draws(golden, tmp_path):
    manifest, _ = golden("glide/base")
    unet = GlideUNet.from_original(
        formula_state_dict(manifest["weights"], manifest["salt"]), manifest["config"]
    )
    made = GlidePipeline(unet, tiny_tokenizer(), num_inference_steps=2, sampler="ddim")
    made.save_pretrained(tmp_path / "model")
    loaded = GlidePipeline.from_pretrained(tmp_path / "model", dtype=torch.float32, device="cpu")
    assert loaded.config["sampler"] == "ddim"
    ours, theirs = (p("a red chair", seed=1, output_type="pt").images for p in (loaded, made))
    side = unet.config["image_size"]
    assert ours.shape == (1, 3, side, side) and ours.std() > 0.01
    assert (ours - theirs).abs().max() <= 1e-3
    assert GlidePipeline.from_pretrained(tmp_path / "model", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_weights_of_another_network_are_refused(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    config = tmp_path / "unet" / "config.json"
    config.write_text(config.read_text().replace('"num_res_blocks": 1', '"num_res_blocks": 2'))
    (tmp_path / "unet" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"do not fit GlideUNet: input_blocks.* \(missing\)"):
        GlidePipeline.from_pretrained(tmp_path)
