"""NoisedClip against what the original computed."""

import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import NoisedClip


def original_weights(manifest):
    """Two files' keys in one dict; the formula knows each file's own keys only."""
    weights = {}
    for side in ("text_encoder.", "image_encoder."):
        entries = {k.removeprefix(side): w for k, w in manifest["weights"].items() if k.startswith(side)}
        weights |= {side + k: v for k, v in formula_state_dict(entries, manifest["salt"]).items()}
    return weights


def assert_close(ours, record):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-4 * max(1.0, record.abs().max().item())


def test_record(golden, tmp_path):
    manifest, tensors = golden("glide/noised_clip")
    heads = {k: v for k, v in manifest["config"].items() if k.startswith("n_head_state")}
    NoisedClip.from_original(original_weights(manifest), heads).save_pretrained(tmp_path)
    clip = NoisedClip.from_pretrained(tmp_path)
    assert {k: clip.config[k] for k in manifest["config"]} == manifest["config"]
    with torch.no_grad():
        text = clip.encode_text(tensors["in/tokens"], tensors["in/lengths"])
        image = clip.encode_image(tensors["in/images"], tensors["in/timesteps"])
    gradient = clip.guidance_gradient(tensors["in/images"], tensors["in/timesteps"], text, 3.0)
    assert_close(text, tensors["out/text_embedding"])
    assert_close(image, tensors["out/image_embedding"])
    assert_close(gradient, tensors["out/guidance_gradient"])


def test_keys_that_do_not_fit_are_named(golden):
    manifest, _ = golden("glide/noised_clip")
    weights = original_weights(manifest)
    del weights["text_encoder.blocks.input.w_voc"]
    weights["image_encoder.extra"] = torch.zeros(1)
    weights["image_encoder.blocks.block_1.f_mlp.f_1.b"] = torch.zeros(3)
    with pytest.raises(ValueError, match="do not fit NoisedClip") as error:
        NoisedClip.from_original(weights, manifest["config"])
    named = (
        "input.w_voc (missing)",
        "image_encoder.extra (unexpected)",
        "c_fc.bias (shape [3], expected [192])",
    )
    assert all(key in str(error.value) for key in named)
    with pytest.raises(ValueError, match="more"):
        NoisedClip.from_original({}, manifest["config"])
