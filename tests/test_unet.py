"""GlideUNet against what the original computed."""

import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import GlideUNet
from tiny_models import shown

TINY = ["base", "inpaint", "upsample", "upsample_inpaint"]
FULL = [f"{name}_full" for name in TINY]


def conditions(tensors):
    names = ("low_res", "inpaint_image", "inpaint_mask")
    return {name: tensors[f"in/{name}"] for name in names if f"in/{name}" in tensors}


def assert_close(ours, record, tolerance=2e-4):
    assert ours.shape == record.shape
    bound = tolerance * max(1.0, record.abs().max().item())
    assert (ours - record).abs().max().item() <= bound


@torch.inference_mode()
@pytest.mark.parametrize("name", [*TINY, *(pytest.param(n, marks=pytest.mark.full) for n in FULL)])
def test_record(golden, name):
    manifest, tensors = golden(f"glide/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    net = GlideUNet.from_original(weights, manifest["config"])
    tokens, mask = tensors["in/tokens"], tensors["in/mask"]
    text = net.encode_text(tokens, mask)
    if "out/text_states" in tensors:
        assert_close(text.projection, tensors["out/text_proj"])
        assert_close(text.states, tensors["out/text_states"])
    out = net(tensors["in/x"], tensors["in/timesteps"], text=text, **conditions(tensors))
    stride = out.shape[-1] // tensors["out/model"].shape[-1]
    assert_close(out[..., ::stride, ::stride], tensors["out/model"])
    if name == "base":
        torch.testing.assert_close(net(tensors["in/x"], tensors["in/timesteps"], tokens, mask), out)


@torch.inference_mode()
@pytest.mark.parametrize("name", [*TINY, *(pytest.param(n, marks=pytest.mark.full) for n in FULL)])
def test_bfloat16_stays_near_the_record(golden, name):
    """The default format keeps 8 bits of a number: within 4 % of the largest, and 0.6 % of it on average."""
    manifest, tensors = golden(f"glide/{name}")
    net = GlideUNet.from_original(
        formula_state_dict(manifest["weights"], manifest["salt"]), manifest["config"]
    )
    net = net.to(torch.bfloat16)
    inputs = {key: value.bfloat16() for key, value in conditions(tensors).items()}
    x, mask = tensors["in/x"].bfloat16(), tensors["in/mask"]
    out = net(x, tensors["in/timesteps"], tensors["in/tokens"], mask, **inputs).float()
    stride = out.shape[-1] // tensors["out/model"].shape[-1]
    error = (out[..., ::stride, ::stride] - tensors["out/model"]).abs() / tensors["out/model"].abs().max()
    assert error.max() <= 0.04 and error.mean() <= 0.006


def small(**changes):
    torch.manual_seed(0)
    layout = {
        "model_channels": 32,
        "channel_mult": (1, 1),
        "num_res_blocks": 1,
        "attention_resolutions": (2,),
    }
    text = {"num_head_channels": 32, "text_ctx": 8, "xf_width": 32, "xf_layers": 1, "xf_heads": 2}
    return shown(GlideUNet(**{"image_size": 16, **layout, **text, **changes}).eval())


@torch.inference_mode()
def test_a_network_on_patches_gives_every_pixel_its_own_noise():
    net = small(n_vocab=10, patch_size=2)
    x, tokens = torch.randn(1, 3, 16, 16), torch.zeros(1, 8, dtype=torch.long)
    out = net(x, torch.tensor([5]), tokens)
    assert out.shape == (1, 6, 16, 16)
    assert (out[..., ::2, ::2] - out[..., 1::2, 1::2]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="multiples of 4"):
        net(torch.zeros(1, 3, 18, 18), torch.tensor([5]), tokens)


@torch.inference_mode()
def test_a_network_may_read_the_states_of_a_text_encoder():
    net = small(text_width=12)
    states, mask = torch.randn(2, 8, 12), torch.arange(8) < 5
    seen = net.encode_text(mask=mask.expand(2, 8), text_states=states)
    hidden = net.encode_text(mask=mask.expand(2, 8), text_states=torch.where(mask[:, None], states, 0))
    torch.testing.assert_close(seen.states, hidden.states)
    assert not torch.equal(seen.states[0], seen.states[1])
    with pytest.raises(ValueError, match=r"text_states of shape \[N, 8, 12\], not None"):
        net.encode_text(torch.zeros(2, 8, dtype=torch.long))
