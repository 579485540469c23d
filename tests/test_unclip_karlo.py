"""Karlo's checkpoints: a folder of diffusers' classes draws what diffusers draws; original files become a folder."""

import inspect
import shutil

import numpy as np
import pytest
import torch
from diffusers import UnCLIPImageVariationPipeline as TheirVariation
from diffusers import UnCLIPPipeline as TheirPipeline
from goldens.formula import formula_state_dict
from maquette.clip import ClipEncoder
from maquette.pipelines import UnCLIPPipeline, UnCLIPVariationPipeline, pipeline
from maquette.pipelines.convert import convert
from maquette.unclip import DiffusionPrior
from PIL import Image
from tiny_karlo import karlo_parts


@pytest.fixture(scope="module")
def karlo(tmp_path_factory):
    """(folder, diffusers' pipeline) of each of the two that are published."""
    folder = tmp_path_factory.mktemp("karlo")
    parts, made = karlo_parts(folder), {}
    for kind in (TheirPipeline, TheirVariation):
        theirs = kind(**{name: parts[name] for name in inspect.signature(kind).parameters})
        theirs.set_progress_bar_config(disable=True)
        theirs.save_pretrained(folder / kind.__name__)
        made[kind] = folder / kind.__name__, theirs
    return made


def psnr(ours, theirs):
    assert ours.shape == theirs.shape
    assert ((theirs > 0) & (theirs < 1)).mean() > 0.2, "these pictures are mere black and white"
    return -10 * np.log10(np.square(ours - theirs).mean())


def test_a_text_draws_what_it_draws_in_diffusers(karlo, tmp_path):
    folder, theirs = karlo[TheirPipeline]
    ours = pipeline("text-to-image", folder, dtype=torch.float32, device="cpu")
    assert isinstance(ours, UnCLIPPipeline)
    ours.set_progress_bar_config(disable=True)
    ask = {"num_inference_steps": 6, "seed": 3, "output_type": "np"}
    drawn = ours("a red car on a hill", **ask).images
    said = {"decoder_num_inference_steps": 6, "generator": torch.Generator().manual_seed(3)}
    assert psnr(drawn, theirs("a red car on a hill", **said, output_type="np").images) >= 50
    ours.save_pretrained(tmp_path / "saved")
    again = UnCLIPPipeline.from_pretrained(tmp_path / "saved", dtype=torch.float32, device="cpu")
    assert np.array_equal(again("a red car on a hill", **ask).images, drawn)


def test_a_picture_is_varied_as_in_diffusers(karlo):
    folder, theirs = karlo[TheirVariation]
    ours = pipeline("image-variation", folder, dtype=torch.float32, device="cpu")
    ours.set_progress_bar_config(disable=True)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    embedding = ours.embed(Image.fromarray(noise))
    pixels = theirs.feature_extractor(images=Image.fromarray(noise), return_tensors="pt").pixel_values
    with torch.no_grad():
        torch.testing.assert_close(embedding, theirs.image_encoder(pixels).image_embeds, rtol=0, atol=1e-4)
    drawn = ours(embedding[0], num_inference_steps=6, seed=3, output_type="np").images
    said = {"decoder_num_inference_steps": 6, "generator": torch.Generator().manual_seed(3)}
    assert psnr(drawn, theirs(image_embeddings=embedding, **said, output_type="np").images) >= 50


@pytest.mark.parametrize("part", ["prior", "text_proj", "super_res_last", "text_encoder", "tokenizer"])
def test_a_part_that_is_missing_is_named(karlo, tmp_path, part):
    folder = shutil.copytree(karlo[TheirPipeline][0], tmp_path / "karlo")
    shutil.rmtree(folder / part)
    with pytest.raises(FileNotFoundError, match=f"has no {part}; expected"):
        UnCLIPPipeline.from_pretrained(folder, dtype=torch.float32)


def test_a_folder_for_texts_has_no_image_encoder_to_vary_pictures(karlo):
    with pytest.raises(FileNotFoundError, match=r"has no image_encoder; .*karlo-v1-alpha-image-variations"):
        UnCLIPVariationPipeline.from_pretrained(karlo[TheirPipeline][0])


@pytest.fixture
def originals(golden, tmp_path):
    """Files laid out as the published ones, of the tiny records."""
    files = {}
    for name in ("prior", "decoder", "upsampler"):
        manifest, tensors = golden(f"karlo/{name}")
        weights = formula_state_dict(manifest["weights"], manifest["salt"])
        files[name] = tmp_path / f"{name}.ckpt"
        torch.save({"state_dict": weights}, files[name])
        if name == "prior":
            files["stats"] = tmp_path / "ViT-L-14_stats.th"
            torch.save((tensors["in/clip_mean"], tensors["in/clip_std"]), files["stats"])
    sizes = {"embed_dim": 48, "image_resolution": 32, "vision_layers": 1, "vision_width": 64}
    text = {"transformer_width": 48, "transformer_heads": 1, "transformer_layers": 1, "context_length": 12}
    encoder = ClipEncoder(**sizes, **text, vision_patch_size=8)
    renamed = {
        key.replace(".attn.c_qkv.", ".attn.in_proj_").replace(".attn.c_proj.", ".attn.out_proj."): value
        for key, value in encoder.state_dict().items()
    }
    files["clip"] = tmp_path / "ViT-L-14.pt"
    torch.save(renamed, files["clip"])
    return files


def test_original_files_become_a_folder(originals, golden, tmp_path):
    convert([*originals.values()], tmp_path / "karlo")
    prior = DiffusionPrior.from_pretrained(tmp_path / "karlo" / "prior")
    torch.testing.assert_close(prior.mean, golden("karlo/prior")[1]["in/clip_mean"])
    pipe = UnCLIPVariationPipeline.from_pretrained(tmp_path / "karlo", dtype=torch.float32)
    assert pipe.embed(Image.new("RGB", (40, 30), "red")).shape == (1, 48)


@pytest.mark.parametrize(("without", "named"), [("stats", "ViT-L-14_stats.th"), ("clip", "ViT-L-14.pt")])
def test_an_original_file_that_is_missing_is_named(originals, tmp_path, without, named):
    with pytest.raises(ValueError, match=named):
        convert([path for name, path in originals.items() if name != without], tmp_path / "karlo")
    assert not (tmp_path / "karlo").exists()
