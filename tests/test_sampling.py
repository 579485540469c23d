"""Sampling against the original's trajectories, and that a sample does not depend on its batch."""

from functools import partial

import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.diffusion import GlideUNet, guided, make_scheduler, sample


def original(golden, name):
    manifest, tensors = golden(f"glide/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return GlideUNet.from_original(weights, manifest["config"]), tensors


def conditions_of(tensors, prefix):
    names = ("low_res", "inpaint_image", "inpaint_mask")
    return {name: tensors[prefix + name] for name in names if prefix + name in tensors}


def known_of(conditions, rows):
    """The pixels that an inpainting record keeps, of its first rows."""
    return tuple(conditions[n][:rows] for n in ("inpaint_image", "inpaint_mask") if n in conditions) or None


def assert_trajectory(ours, record):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-3 * max(1.0, record.abs().max().item())


@pytest.mark.parametrize("name", ["base", "inpaint"])
def test_ancestral_sampling_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/ddpm/")
    with torch.no_grad():
        text = net.encode_text(tensors["in/ddpm/tokens"], tensors["in/ddpm/mask"])
    denoiser = guided(partial(net, text=text, **conditions), 3.0)
    draw = partial(next, (noise[:1] for noise in tensors["in/ddpm/noise"]))
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", 12)
    ours = sample(denoiser, scheduler, draw, known=known_of(conditions, rows=1))
    assert_trajectory(ours, tensors["out/ddpm"])


@pytest.mark.parametrize("name", ["upsample", "upsample_inpaint"])
def test_ddim_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    conditions = conditions_of(tensors, "in/")
    denoiser = partial(net, tokens=tensors["in/tokens"], mask=tensors["in/mask"], **conditions)
    ours = sample(
        denoiser,
        make_scheduler("ddim", "linear", "fast27"),
        lambda: tensors["in/ddim/noise"],
        temperature=0.997,
        known=known_of(conditions, rows=2),
    )
    assert_trajectory(ours, tensors["out/ddim"])
