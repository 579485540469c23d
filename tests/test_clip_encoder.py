"""ClipEncoder against what the original computed, and what its two shortcuts must not change."""

import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.clip import ClipEncoder
from maquette.layers import prepare
from maquette.layers.int16_product import Int16Product

TINY = ["vit_tiny", "resnet_tiny"]
FULL = ["vit_l_14_full", "vit_b_32_full", "rn50_full"]


def assert_close(ours, record, tolerance=2e-4):
    assert ours.shape == record.shape
    bound = tolerance * max(1.0, record.abs().max().item())
    assert (ours - record).abs().max().item() <= bound


def encoder(golden, name, read_off=False):
    manifest, tensors = golden(f"clip/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return ClipEncoder.from_original(weights, None if read_off else manifest["config"]), tensors


@torch.inference_mode()
@pytest.mark.parametrize("name", [*TINY, *(pytest.param(n, marks=pytest.mark.full) for n in FULL)])
def test_record(golden, name):
    net, tensors = encoder(golden, name, read_off=True)
    image, text = net.encode_image(tensors["in/image"]), net.encode_text(tensors["in/tokens"])
    assert_close(image.vector, tensors["out/image_features"])
    assert_close(text.vector, tensors["out/text_features"])
    every = text.states.shape[-1] // tensors["out/text_states"].shape[-1]
    assert_close(text.states[..., ::every], tensors["out/text_states"])
    if "out/image_grid" in tensors:
        every = image.grid.shape[-1] // tensors["out/image_grid"].shape[1]
        assert_close(image.grid[..., ::every].transpose(1, 2), tensors["out/image_grid"])
    else:
        assert image.grid is None
    images, texts, scale, bias = net(tensors["in/image"], tensors["in/tokens"])
    assert_close(scale * images @ texts.T, tensors["out/logits_per_image"])
    assert bias is None


@torch.inference_mode()
@pytest.mark.skipif(
    not Int16Product.works(), reason="int16_product.c was not compiled, or this CPU has no AVX2"
)
@pytest.mark.parametrize("name", [*TINY, *(pytest.param(n, marks=pytest.mark.full) for n in FULL)])
def test_through_int16_it_stays_near_the_record(golden, name, monkeypatch):
    monkeypatch.setattr(Int16Product, "pays", lambda: True)
    with torch.inference_mode(False):
        net, tensors = encoder(golden, name, read_off=True)
    text = net.encode_text(tensors["in/tokens"]).vector
    with torch.inference_mode(False):
        prepare(net, approximate=True)
    rough = net.encode_text(tensors["in/tokens"]).vector
    assert not torch.equal(rough, text)
    assert_close(rough, tensors["out/text_features"], 1e-3)
    assert_close(net.encode_image(tensors["in/image"]).vector, tensors["out/image_features"], 1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_vectors_alone_are_those_beside_the_grid_and_the_states(golden, training):
    net, tensors = encoder(golden, "vit_tiny")
    pixels, tokens = tensors["in/image"], tensors["in/tokens"]
    with torch.set_grad_enabled(training):
        image, text = net.encode_image(pixels), net.encode_text(tokens)
        short_image = net.encode_image(pixels, with_grid=False)
        short_text = net.encode_text(tokens, with_states=False)
    assert short_image.grid is None and short_text.states is None
    torch.testing.assert_close(short_image.vector, image.vector, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(short_text.vector, text.vector, rtol=1e-4, atol=1e-4)


def test_a_row_does_not_depend_on_the_batch(golden):
    net, tensors = encoder(golden, "vit_tiny")
    tokens = torch.zeros(3, 77, dtype=torch.long)
    tokens[0, :4] = torch.tensor([512, 5, 6, 513])
    tokens[1, :9] = torch.tensor([512, 5, 6, 7, 8, 9, 10, 11, 513])
    tokens[2] = tensors["in/tokens"][0]
    with torch.no_grad():
        alone = torch.cat([net.encode_text(row[None], with_states=False).vector for row in tokens])
        together = net.encode_text(tokens, with_states=False).vector
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", [*TINY, *(pytest.param(n, marks=pytest.mark.full) for n in FULL)])
@pytest.mark.parametrize("prepared", [False, True])
def test_bfloat16_stays_near_the_record(golden, name, prepared):
    """The tolerance is bfloat16's own: 8 bits, rounded some dozen times in a row."""
    net, tensors = encoder(golden, name, read_off=True)
    net.to(torch.bfloat16)
    net = prepare(net) if prepared else net
    image, text = net.encode_image(tensors["in/image"]).vector, net.encode_text(tensors["in/tokens"]).vector
    assert image.dtype == text.dtype == torch.float32
    assert_close(image, tensors["out/image_features"], 3e-2)
    assert_close(text, tensors["out/text_features"], 3e-2)


def test_saved_and_loaded_it_is_the_same(golden, tmp_path):
    for name in TINY:
        net, tensors = encoder(golden, name)
        net.save_pretrained(tmp_path / name)
        again = ClipEncoder.from_pretrained(tmp_path / name)
        assert torch.equal(
            again.encode_image(tensors["in/image"]).vector, net.encode_image(tensors["in/image"]).vector
        )


def test_what_is_no_clip_is_refused(golden):
    manifest, _ = golden("clip/vit_tiny")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    with pytest.raises(ValueError, match="no CLIP"):
        ClipEncoder.from_original({"weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"ln_post.weight \(missing\)"):
        ClipEncoder.from_original({k: v for k, v in weights.items() if k != "visual.ln_post.weight"})
    with pytest.raises(ValueError, match="activation 'relu'"):
        ClipEncoder.from_original(weights, {"activation": "relu"})
    net = ClipEncoder.from_original(weights)
    with pytest.raises(ValueError, match="expected \\[N, 3, 32, 32\\]"):
        net.encode_image(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="the vocabulary has 514"):
        net.encode_text(torch.full((1, 3), 514))
    with pytest.raises(ValueError, match="expected \\[N, 1 to 77\\]"):
        net.encode_text(torch.zeros(1, 78, dtype=torch.long))
