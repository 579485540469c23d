"""Two stages, presets, sizes, photos to begin with and guidance by CLIP, through GlidePipeline's public call."""

from inspect import signature

import numpy as np
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import GlideTokenizer, GlideUNet, normal_draws
from maquette.pipelines import GlidePipeline, glide_stages
from maquette.pipelines.presets import with_preset
from PIL import Image
from tiny_models import tiny_clip, tiny_glide, tiny_noised_clip, tiny_tokenizer, tiny_two_stages, tiny_unet


@pytest.fixture(scope="module")
def pipe():
    return tiny_two_stages()


class RecordedTexts(GlideTokenizer):
    """The tokens of a record, each row under its number as a text, and the last row as the empty one if need be."""

    padding_id = 0

    def __init__(self, tokens, mask):
        self.tokens, self.mask = tokens, mask

    def with_mask(self, texts, context_length):
        rows = [int(text or -1) for text in texts]
        return self.tokens[rows], self.mask[rows] & torch.tensor([bool(text) for text in texts])[:, None]

    def truncated_at(self, text, context_length):
        return None


def record(golden, name, monkeypatch, noise):
    """The network of a record and its tensors; draws of its shape are then `noise` of them, one after the other."""
    manifest, tensors = golden(f"glide/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    draws = iter(noise(tensors))

    def draw(generators, shape, device):
        return draws.__next__ if shape == (3, 16, 16) else normal_draws(generators, shape, device)

    monkeypatch.setattr(glide_stages, "normal_draws", draw)
    return GlideUNet.from_original(weights, manifest["config"]), tensors


def assert_trajectory(images, record):
    ours = 2 * images - 1
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-3 * max(1.0, record.abs().max().item())


def test_the_original_preset_draws_as_the_original(golden, monkeypatch):
    net, tensors = record(golden, "base", monkeypatch, lambda tensors: tensors["in/ddpm/noise"][:, :1])
    texts = RecordedTexts(tensors["in/ddpm/tokens"], tensors["in/ddpm/mask"])
    pipe = GlidePipeline(net, texts, guidance_interval=(1, 2), guidance_scale=1)
    made = pipe("0", preset="original", num_inference_steps=12, output_type="pt")
    assert made.settings[0].items() >= {"preset": "original", "guidance": "3.0", "steps": "12"}.items()
    assert_trajectory(made.images, tensors["out/ddpm"])


def test_a_guidance_of_0_reads_no_words_in_either_stage():
    pipe = tiny_two_stages()
    pipe.register_to_config(guidance_interval=(0.5, 2.0))

    def draw(prompt, scale):
        return pipe(prompt, seed=0, guidance_scale=scale, output_type="np").images

    assert np.array_equal(draw("a red chair", 0), draw("a blue table", 0))
    assert np.abs(draw("a red chair", 1) - draw("a blue table", 1)).max() > 0.01


def test_the_presets_are_the_notebooks():
    original, inpaint = (
        with_preset(tiny_two_stages().config, "original", f"glide{of}") for of in ("", "-inpaint")
    )
    assert (original["guidance_scale"], original["upsampler_sampler"]) == (3.0, "ddim")
    assert (inpaint["guidance_scale"], inpaint["upsampler_sampler"]) == (5.0, "ddpm")
    pipe = tiny_two_stages()
    assert with_preset(pipe.config, "default") == dict(pipe.config)


def test_the_original_preset_enlarges_as_the_original(golden, monkeypatch):
    net, tensors = record(golden, "upsample", monkeypatch, lambda tensors: [tensors["in/ddim/noise"]])
    texts = RecordedTexts(tensors["in/tokens"], tensors["in/mask"])
    pipe = GlidePipeline(tiny_unet(image_size=4, text_ctx=16), texts, upsampler=net)
    # The record's low resolution has more than 8 bits.
    monkeypatch.setattr(glide_stages, "in_8_bits", lambda x: x)
    seen = []

    def small(pipe, step, timestep, given):
        seen.append(given["stage"])
        return {"latents": tensors["in/low_res"]} if given["stage"] == "base" else None

    made = pipe(
        ["0", "1"], preset="original", num_inference_steps=1, output_type="pt", callback_on_step_end=small
    )
    assert seen == ["base"] + ["upsampler"] * 27
    assert_trajectory(made.images, tensors["out/ddim"])


def rows_of(network, run):
    """How many rows `network` sees at each call while `run` runs, and the keyword arguments of the calls."""
    rows, given = [], []

    def hook(module, args, kwargs):
        rows.append(len(args[0]))
        given.append(kwargs)

    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    run()
    handle.remove()
    return rows, given


def test_the_upsampler_sees_what_the_base_drew_in_8_bits_and_steps_are_counted_on(pipe):
    seen = []

    def look(pipe, step, timestep, given):
        seen.append((given["stage"], step, given["latents"].shape[-1], given["x0"].shape[-1]))
        small.append(given["x0"]) if given["stage"] == "base" else None

    small = []
    _, given = rows_of(pipe.upsampler, lambda: pipe("a cat", seed=0, callback_on_step_end=look))
    assert seen == [("base", i, 16, 16) for i in range(3)] + [("upsampler", i, 64, 64) for i in (3, 4)]
    rounded = torch.nn.functional.interpolate(
        torch.round((small[-1] + 1) * 127.5) / 127.5 - 1, scale_factor=4, mode="bilinear"
    )
    torch.testing.assert_close(given[0]["low_res"], rounded)


def test_a_weaker_upsampler_begins_with_the_small_picture_and_takes_its_last_steps(pipe):
    arguments = {
        name: pipe.config[name] for name in signature(GlidePipeline).parameters if name not in pipe.parts
    }
    settings = {"upsampler_steps": 10, "upsampler_strength": 0.3}
    weaker = GlidePipeline(**{name: getattr(pipe, name) for name in pipe.parts}, **arguments | settings)
    stages = []
    call = {
        "seed": 0,
        "callback_on_step_end": lambda pipe, step, timestep, given: stages.append(given["stage"]),
    }
    _, given = rows_of(pipe.upsampler, lambda: weaker("a cat", **call))
    assert stages.count("upsampler") == 3
    x = []
    handle = pipe.upsampler.register_forward_pre_hook(lambda module, args: x.append(args[0]))
    weaker("a cat", seed=0)
    handle.remove()
    assert (x[0] - given[0]["low_res"]).std() < 1


@pytest.mark.parametrize(("size", "calls"), [(8, 0), (16, 0), (40, 2), (64, 2), (100, 2 + 2 * 4)])
def test_a_size_is_drawn_whole_reduced_or_in_tiles(pipe, size, calls, capsys):
    pipe.set_progress_bar_config(disable=False)
    made = []
    rows, _ = rows_of(pipe.upsampler, lambda: made.append(pipe("a cat", seed=2, size=size, output_type="pt")))
    pipe.set_progress_bar_config(disable=True)
    images = made[0].images
    assert images.shape == (1, 3, size, size) and images.std() > 0.01 and len(rows) == calls
    steps = 3 + 2 * len(pipe._sides(size))
    assert f"{steps}/{steps}" in capsys.readouterr().err


def test_a_tiled_picture_does_not_depend_on_its_batch(pipe):
    alone = pipe("a cat", seed=5, size=72, output_type="pt").images[0]
    batch = pipe(["a dog", "a cat"], seed=4, size=72, output_type="pt").images
    # Of the mean: rounding to 8 bits makes a millionth a 255th, which a random network makes as much as it likes.
    assert (batch[1] - alone).abs().mean() < 1e-3 and (batch[0] - alone).abs().mean() > 0.05


def test_large_pictures_go_through_the_upsampler_few_at_a_time(pipe, monkeypatch):
    monkeypatch.setattr(glide_stages, "PIXELS", 2 * 64**2)
    done = []

    def keep(made):
        assert len(made.images) == len(made.settings)
        done.extend(each["seed"] for each in made.settings)
        if "3" in done:
            raise MemoryError

    with pytest.raises(MemoryError):
        pipe("a cat", num_images_per_prompt=5, seed=0, callback_on_batch_end=keep)
    assert done == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("scale", "interval", "rows"), [
    (0, None, [2, 2, 2]), (1, None, [2, 2, 2]), (3, None, [4, 4, 4]), (3, (0, 1), [2, 2, 4]),
])  # fmt: skip
def test_guidance_doubles_the_batch_only_where_it_guides(pipe, scale, interval, rows):
    other = GlidePipeline(pipe.unet, pipe.tokenizer, guidance_interval=interval, num_inference_steps=3)
    other.set_progress_bar_config(disable=True)
    made = []

    def draw(words="a cat"):
        made.append(other([words, "a dog"], guidance_scale=scale, seed=0, output_type="pt").images)

    assert rows_of(other.unet, draw)[0] == rows
    draw("a red")
    words_matter = not torch.equal(*made)
    assert words_matter == (scale != 0)


def test_a_photo_is_changed_the_more_the_greater_the_strength(pipe, tmp_path):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)).resize((48, 24))
    square = np.asarray(photo.crop((12, 0, 36, 24)).resize((16, 16)), np.float32) / 255
    off = []
    how = {"image": photo, "num_inference_steps": 20, "seed": 0, "size": 16, "output_type": "np"}
    for strength, steps in ((0.05, 1), (0.5, 10), (1, 20)):
        made = []
        calls, _ = rows_of(pipe.unet, lambda s=strength, m=made: m.append(pipe("a cat", strength=s, **how)))
        assert len(calls) == steps
        off.append(np.abs(made[0].images[0] - square).mean())
    assert off[0] < 0.1 < off[1] < off[2]
    photo.save(tmp_path / "photo.png")
    of_path, of_picture = (
        pipe("a cat", strength=0.05, **{**how, "image": image}).images[0]
        for image in (tmp_path / "photo.png", photo)
    )
    assert np.array_equal(of_path, of_picture)


def test_the_noise_aware_clip_guides(pipe):
    clip = tiny_noised_clip()
    words = tiny_clip().tokenizer
    guided = tiny_glide(noised_clip=clip, clip_tokenizer=words)
    guided.set_progress_bar_config(disable=True)
    text = clip.encode_text(*words.with_lengths(["a red chair"], 24))

    def fit(scale):
        x = guided("a red chair", seed=3, clip_guidance_scale=scale, output_type="pt").images * 2 - 1
        return torch.cosine_similarity(clip.encode_image(x, torch.zeros(1, dtype=torch.int64)), text).item()

    assert fit(3) > fit(None) + 0.03 and fit(-3) < fit(None) - 0.03


def test_any_clip_guides(pipe):
    clip = tiny_clip()
    words = clip.embed_texts(["a red chair"])[0]

    def fit(scale):
        made = pipe("a red chair", seed=3, size=16, clip_guidance_scale=scale, clip=clip)
        return float(clip.embed_images(made.images)[0] @ words)

    assert fit(30) > fit(None) + 0.05 and fit(-30) < fit(None) - 0.05


def test_all_parts_are_saved_and_loaded(tmp_path):
    pipe = tiny_two_stages()
    full = GlidePipeline(
        pipe.unet, pipe.tokenizer, upsampler=pipe.upsampler, noised_clip=tiny_noised_clip(),
        clip_tokenizer=tiny_clip().tokenizer, guidance_interval=(0.5, 4), num_inference_steps=2,
        dynamic_threshold=0.9, upsampler_steps="3",
    )  # fmt: skip
    full.save_pretrained(tmp_path / "model")
    again = GlidePipeline.from_pretrained(tmp_path / "model", dtype=torch.float32, device="cpu")
    for each in (full, again):
        each.set_progress_bar_config(disable=True)
    ours, theirs = (
        p("a cat", seed=1, clip_guidance_scale=0.1, output_type="pt").images for p in (full, again)
    )
    assert ours.shape == (1, 3, 64, 64) and (ours - theirs).abs().max() <= 1e-3
    half = GlidePipeline.from_pretrained(tmp_path / "model", dtype=torch.bfloat16, device="cpu")
    assert np.isfinite(half("a cat", seed=1, size=16, clip_guidance_scale=0.1, output_type="np").images).all()


def test_parts_in_each_others_place_and_impossible_settings_are_refused(pipe):
    words = tiny_tokenizer()
    for arguments, message in (
        ({"unet": pipe.upsampler}, "given as unet is an upsampler"),
        ({"unet": pipe.unet, "upsampler": pipe.unet}, "given as upsampler is a base network"),
        ({"unet": pipe.unet, "noised_clip": tiny_noised_clip()}, "needs a clip_tokenizer"),
        ({"unet": pipe.unet, "guidance_interval": (3, 1)}, "two noise levels, the lower first"),
        ({"unet": pipe.unet, "guidance_interval": 5}, "two noise levels, the lower first"),
        ({"unet": pipe.unet, "guidance_interval": [0.3, None]}, "two noise levels, the lower first"),
        ({"unet": pipe.unet, "guidance_interval": "35"}, "two noise levels, the lower first"),
        ({"unet": pipe.unet, "dynamic_threshold": 99.5}, "a quantile above 0 to 1"),
        ({"unet": pipe.unet, "upsampler_sampler": "euler"}, "unknown sampler 'euler'"),
        ({"unet": pipe.unet, "upsampler_steps": "fast"}, "cannot read the spacing 'fast'"),
    ):
        with pytest.raises(ValueError, match=message):
            GlidePipeline(tokenizer=words, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 62}, "a multiple of 4, such as 64, not 62"),
        ({"size": 0}, "from 4 to 4096, not 0"),
        ({"preset": "orignal"}, "did you mean 'original'"),
        ({"strength": 0.5}, "there is no photo"),
        ({"strength": 0, "image": Image.new("RGB", (9, 9))}, "above 0 .* at most 1 .* not 0"),
        ({"strength": 1.5, "image": Image.new("RGB", (9, 9))}, "not 1.5"),
        ({"image": Image.new("RGB", (0, 9))}, "no pixels"),
        ({"clip_guidance_scale": 1}, "no noised_clip to guide it"),
        ({"clip_guidance_scale": float("nan")}, "CLIP guidance scale must be a number"),
    ],
)
def test_bad_requests_are_refused_before_sampling(pipe, arguments, message, monkeypatch):
    monkeypatch.setattr(pipe.unet, "forward", None)
    with pytest.raises(ValueError, match=message):
        pipe("a cat", **arguments)


def test_more_pixels_than_a_model_without_upsampler_has_are_refused(pipe):
    small = tiny_glide()
    with pytest.raises(ValueError, match="no upsampler and draws 16 px, not 64"):
        small("a cat", size=64)


def test_known_pixels_stay_through_both_stages(pipe):
    """What inpainting builds on: both networks are told of the known pixels, which come back as they are."""
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    halved = torch.zeros(1, 1, 64, 64)
    halved[..., :32] = 1

    def known(side):
        return tuple(part[..., :: 64 // side, :: 64 // side] for part in (photo, halved))

    request = pipe.request(["a cat", "a dog"], 1, None, None, 0, None)

    def draw():
        x.append(pipe.draw_base(request, lambda *_, stage: None, known=known))
        x.append(pipe.upsample(request, x[0], 64, lambda *_, stage: None, known=known))

    x = []
    _, given = rows_of(pipe.upsampler, lambda: rows_of(pipe.unet, draw))
    for pictures in x:
        side = pictures.shape[-1]
        assert torch.equal(pictures[..., : side // 2], known(side)[0][..., : side // 2].expand(2, -1, -1, -1))
        assert (pictures[..., side // 2 :] - known(side)[0][..., side // 2 :]).abs().mean() > 0.1
    assert torch.equal(given[0]["inpaint_mask"], halved.expand(2, -1, -1, -1))
