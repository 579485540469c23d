"""Texts and pictures to pictures with unCLIP in Python: what calls take, give and refuse."""

import math
from inspect import signature

import numpy as np
import pytest
import torch
from maquette.clip.model import ClipModel
from maquette.pipelines import UnCLIPPipeline, UnCLIPVariationPipeline, pipeline
from maquette.pipelines.latent_edits import blend, edit, reconstructions
from maquette.pipelines.presets import with_preset
from maquette.pipelines.request import PromptWarning
from maquette.unclip import AutoregressivePrior
from maquette.unclip.large_upsampler import LargeUpsampler
from PIL import Image
from tiny_models import tiny_clip, tiny_two_stages, tiny_unclip, tiny_unet, tiny_variation


@pytest.fixture(scope="module")
def pipe():
    return tiny_unclip()


@pytest.fixture(scope="module")
def variation():
    return tiny_variation()


@pytest.fixture(scope="module")
def photos():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


def test_a_picture_is_the_same_alone_in_a_batch_and_elsewhere_in_it(pipe):
    def draw(prompt, seed, count=1):
        return pipe(prompt, seed=seed, num_images_per_prompt=count, output_type="np").images

    alone = draw("a red chair", 7)[0]
    assert alone.shape == (32, 32, 3)
    assert np.abs(draw("a red chair", 5, count=3)[2] - alone).max() <= 1 / 255
    assert np.abs(draw(["a blue table", "a red chair"], 6)[1] - alone).max() <= 1 / 255
    assert np.abs(draw("a red chair", 8)[0] - alone).max() > 0.05
    assert np.abs(draw("a blue table", 7)[0] - alone).max() > 0.005


def test_of_several_embeddings_the_one_nearest_to_the_text_is_drawn(pipe):
    def request(candidates):
        own = {**pipe.config, "prior_candidates": candidates}
        return pipe.request("a red chair", 2, None, None, 0, None, own=own)

    words = pipe.read(["a red chair"]).vector[0]
    one, best = (pipe.draw_embedding(request(n), lambda *_, **__: None) @ words for n in (1, 8))
    assert (best > one).all()


def test_the_prior_alone_makes_the_embeddings_that_are_drawn(pipe):
    made = pipe.embed(["a red chair", "a blue table"], 2, seed=3)
    assert made.shape == (4, 16) and made.dtype == torch.float32
    request = pipe.request("a blue table", 1, None, None, 6, None)
    torch.testing.assert_close(
        made[3:], pipe.draw_embedding(request, lambda *_, **__: None), rtol=0, atol=1e-4
    )


def test_presets_are_karlos_unless_a_model_says_otherwise(pipe):
    made = pipe("a cat", preset="fast", seed=0)
    assert made.settings[0].items() >= {"preset": "fast", "steps": "25", "via": "unclip"}.items()
    own = {name: each.default for name, each in signature(UnCLIPPipeline).parameters.items()}
    karlos = {
        "prior_steps": 25,
        "prior_guidance_scale": 4.0,
        "prior_candidates": 1,
        "num_inference_steps": 50,
    }
    karlos |= {
        "guidance_scale": 8.0,
        "guidance_interval": None,
        "upsampler_steps": 7,
        "upsampler_strength": 1.0,
    }
    karlos |= dict.fromkeys(("prior_sampler", "sampler", "upsampler_sampler"), "ddpm")
    assert own.items() >= karlos.items()
    assert with_preset(pipe.config | {"guidance_scale": 3.0}, "default", "unclip")["guidance_scale"] == 3.0
    with pytest.raises(ValueError, match=r"unknown preset 'original'.*known are default, fast"):
        pipe("a cat", preset="original")


def test_guidance_in_an_interval_that_no_step_meets_is_none(pipe):
    def draw(**settings):
        parts = {name: getattr(pipe, name) for name in ("prior", "decoder", "clip", "tokenizer", "upsampler")}
        few = UnCLIPPipeline(**parts, num_inference_steps=2, prior_steps=2, **settings)
        return few("a cat", seed=0, output_type="np").images

    unguided = draw(guidance_scale=1.0)
    assert np.array_equal(draw(guidance_scale=9.0, guidance_interval=(1e6, 1e7)), unguided)
    assert not np.array_equal(draw(guidance_scale=9.0, guidance_interval=(0, 1e7)), unguided)
    with pytest.raises(ValueError, match="the lower first"):
        draw(guidance_interval=(5, 1))


def test_a_saved_model_serves_texts_and_pictures(pipe, photos, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    again = pipeline("text-to-image", tmp_path / "model", dtype=torch.float32)
    ask = {"seed": 1, "output_type": "np"}
    assert np.abs(again("a cat", **ask).images - pipe("a cat", **ask).images).max() < 1e-3
    varied = pipeline("image-variation", tmp_path / "model", dtype=torch.float32)
    assert varied(photos[0], num_images_per_prompt=2, seed=0).images[1].size == (32, 32)
    with pytest.raises(ValueError, match="has no glide, it draws via unclip"):
        pipeline("text-to-image", tmp_path / "model", via="glide")
    assert not hasattr(varied, "prior")


def test_variations_differ_by_seed_and_picture_and_take_an_embedding_as_well(variation, photos):
    made = variation(photos, num_images_per_prompt=2, seed=4, output_type="np")
    images = made.images
    assert [each["seed"] for each in made.settings] == ["4", "5", "6", "7"] and "prompt" not in made.settings[
        0
    ]
    assert all(np.abs(images[0] - other).max() > 0.01 for other in images[1:])
    embedding = variation.embed(photos[1])
    again = variation(embedding[0], seed=6, output_type="np").images[0]
    assert np.abs(again - images[2]).max() <= 1 / 255
    vectors = ClipModel(variation.clip, variation.tokenizer).embed_images(photos)
    torch.testing.assert_close(torch.nn.functional.normalize(embedding), vectors[1:], rtol=0, atol=1e-5)


def test_a_variation_begins_with_the_picture_as_far_as_its_strength_says(variation, photos):
    alone = UnCLIPVariationPipeline(variation.decoder, variation.clip, variation.tokenizer)
    alone.set_progress_bar_config(disable=True)
    steps = []

    def draw(image=photos[0], seed=3, count=3, **arguments):
        steps.clear()
        given = {"output_type": "np", "num_inference_steps": count, "guidance_scale": 1.0}
        given["callback_on_step_end"] = note
        made = alone(image, seed=seed, **given, **arguments)
        return made.images[0], made.settings[0].get("strength")

    def note(pipe, step, timestep, given):
        steps.append(step)

    # The last of a thousand steps takes away next to nothing, whatever the network says.
    square = photos[0].crop((0, 0, 30, 30))
    again, said = draw(square, count=1000, strength=0.001)
    assert said == "0.001" and steps == [0]
    assert np.abs(again - np.asarray(square.resize((16, 16), Image.Resampling.BICUBIC)) / 255).max() < 0.1
    assert np.abs(draw(strength=0.7)[0] - draw(seed=4, strength=0.7)[0]).max() > 0.01 and steps == [0, 1]
    assert np.array_equal(draw(strength=1)[0], draw()[0]) and draw()[1] == "1.0"
    embedding = alone.embed(photos[0])
    assert np.array_equal(draw(embedding, strength=0.7)[0], draw(embedding)[0])
    with pytest.raises(ValueError, match=r"the strength must be above 0.*, not 1\.5"):
        draw(strength=1.5)


def test_glides_upsampler_serves_as_well(photos):
    upsampler = tiny_unet(24, image_size=32, super_res=True, text_width=32)
    whole = tiny_variation()
    parts = whole.decoder, whole.clip, whole.tokenizer
    steps = {"num_inference_steps": 1, "upsampler_steps": 10, "upsampler_strength": 0.3}
    pipe = UnCLIPVariationPipeline(*parts, upsampler, **steps)
    pipe.set_progress_bar_config(disable=True)
    stages = []

    def note(pipe, step, timestep, given):
        stages.append(given["stage"])

    assert pipe(photos[0], seed=0, callback_on_step_end=note).images[0].size == (32, 32)
    assert stages == ["decoder", *["upsampler"] * 3]
    with pytest.raises(ValueError, match="upsampler_strength must be above 0"):
        UnCLIPVariationPipeline(*parts, upsampler, upsampler_strength=0)
    with pytest.raises(ValueError, match="base network, which takes no low_res"):
        UnCLIPVariationPipeline(*parts, tiny_unet(image_size=32))


def test_a_blend_goes_from_one_picture_to_the_other(variation, photos):
    made = blend(variation, *photos, 3, seed=1)
    first, middle, last = (np.asarray(image, float) for image in made.images)
    assert [each["blend"] for each in made.settings] == ["0.000", "0.500", "1.000"]
    alone = edit(variation, photos[0], "a cat", "a dog", 0.0, seed=1).images[0]
    assert np.abs(first - np.asarray(alone)).max() <= 1
    assert np.abs(middle - first).mean() > 0 and np.abs(middle - last).mean() > 0
    with pytest.raises(ValueError, match="must be a whole number from 2"):
        blend(variation, *photos, 1)


def test_an_edit_moves_the_picture_the_more_the_stronger_it_is(variation, photos):
    untouched, little, much = (
        np.asarray(edit(variation, photos[0], "a red car", "a blue car", strength).images[0], float)
        for strength in (0, 0.3, 1)
    )
    assert 0 < np.abs(little - untouched).mean() < np.abs(much - untouched).mean()


def test_a_reconstruction_in_all_dimensions_is_the_picture_drawn_again(variation, photos):
    embeddings = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    made = reconstructions(variation, photos[0], embeddings, [0, 4, 16])
    whole = edit(variation, photos[0], "a cat", "a dog", 0.0).images[0]
    mean, _, last = (np.asarray(image, float) for image in made.images)
    assert np.abs(last - np.asarray(whole)).max() <= 1 < np.abs(mean - last).max()
    with pytest.raises(ValueError, match="dimensions must be whole numbers from 0 to 16"):
        reconstructions(variation, photos[0], embeddings, [17])


def test_a_path_is_its_picture(variation, photos, tmp_path):
    photos[0].save(tmp_path / "photo.png")
    drawn = variation(str(tmp_path / "photo.png"), seed=1, strength=0.5, output_type="pt").images
    assert torch.equal(drawn, variation(photos[0], seed=1, strength=0.5, output_type="pt").images)


def test_what_cannot_be_is_refused(pipe, variation, photos):
    with pytest.raises(
        ValueError, match=r"\(2, 9\); expected 16 numbers each, from the image encoder of the CLIP"
    ):
        variation(torch.zeros(2, 9))
    with pytest.raises(TypeError, match="expected a PIL picture or a path, got int"):
        variation(3)
    with pytest.raises(ValueError, match="there is no picture"):
        variation([])
    with pytest.raises(ValueError, match=r"noise has shape \(1, 3, 8, 8\); expected \(1, 3, 16, 16\)"):
        variation(photos[0], noise=torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="the strength must be from 0"):
        edit(variation, photos[0], "a cat", "a dog", 1.5)
    with pytest.raises(ValueError, match="both texts are 'a cat'"):
        edit(variation, photos[0], "a cat", "a cat")
    with pytest.raises(ValueError, match="there are 2 pictures and 1 embeddings"):
        variation.invert(photos, torch.zeros(16))
    with pytest.raises(ValueError, match="the networks draw 16, then 32, then 8 px"):
        tiny_unclip(large_upsampler=LargeUpsampler(8, 32, 1, (1, 1)))
    with pytest.raises(ValueError, match="the prior's guidance scale must be a number"):
        pipe("a cat", prior_guidance_scale=math.nan)
    other = tiny_clip().encoder.from_config({**pipe.clip.config, "embed_dim": 20})
    with pytest.raises(ValueError, match=r"decoder reads vectors of 16 .* given makes 20, 24 and 32"):
        UnCLIPVariationPipeline(pipe.decoder, other, pipe.tokenizer)


def test_what_the_prior_or_an_edit_does_not_read_is_warned_of(pipe, variation, photos):
    prior = tiny_unclip().prior.from_config({**pipe.prior.config, "text_ctx": 4})
    short = UnCLIPPipeline(prior, pipe.decoder, pipe.clip, pipe.tokenizer)
    assert "the 4 tokens" in short.truncations(["a red chair on a table"])[0]
    assert pipe.truncations(["a red chair on a table"]) == []
    with pytest.warns(PromptWarning, match="was cut off"), pytest.raises(ValueError, match="reads the same"):
        edit(variation, photos[0], "very " * 40 + "red", "very " * 40 + "blue")


def test_another_kind_of_model_is_named(tmp_path):
    tiny_two_stages().save_pretrained(tmp_path / "glide")
    with pytest.raises(ValueError, match="has nothing as decoder; UnCLIPPipeline wants UnCLIPDecoder"):
        UnCLIPPipeline.from_pretrained(tmp_path / "glide")
    with pytest.raises(ValueError, match="has no unclip, it draws via glide"):
        pipeline("text-to-image", tmp_path / "glide", via="unclip")
    with pytest.raises(ValueError, match=r"unknown way 'unclop'.*did you mean 'unclip'"):
        pipeline("text-to-image", via="unclop")


def test_the_other_prior_and_the_second_upsampler_are_parts_as_well(tmp_path):
    reads = {"text_ctx": 24, "clip_dim": 16, "text_width": 32}
    prior = AutoregressivePrior(
        xf_width=32, xf_layers=1, xf_heads=2, dimensions=4, buckets=8, similarities=4, **reads
    )
    large = LargeUpsampler(64, 32, 1, (1, 2))
    parts = {"prior": prior.eval(), "large_upsampler": large.eval(), "large_upsampler_steps": 1}
    tiny_unclip(**parts).save_pretrained(tmp_path / "model")
    other = UnCLIPPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    other.set_progress_bar_config(disable=True)

    def draw(seed, count=1):
        return other("a cat", seed=seed, num_images_per_prompt=count, output_type="np").images

    both = draw(3, 2)
    assert both.shape == (2, 64, 64, 3) and np.abs(both[1] - draw(4)[0]).max() <= 1 / 255
