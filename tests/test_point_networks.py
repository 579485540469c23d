"""Point-E's diffusion transformers against what the originals computed."""

import inspect
import json

import pytest
import torch
from conftest import FULL_GOLDENS
from goldens.formula import formula_state_dict
from maquette.point_e import PointDiffusionTransformer, PointUpsampler
from maquette.point_e.training.clouds import scaled

TINY = ["base_uncond", "base_vector", "base_grid", "upsample"]
FULL = ["base40M_full", "base40M_textvec_full", "base40M_imagevec_full", "base40M_uncond_full"]
FULL += ["base300M_full", "upsample_full"]


def network(manifest, config=None):
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    cls = PointUpsampler if "Upsample" in manifest["config"]["name"] else PointDiffusionTransformer
    return cls.from_original(weights, manifest["config"] if config is None else config)


def conditions(net, tensors):
    given = {}
    if net.config.conditioning != "none":
        given["embedding" if net.config.conditioning == "vector" else "grid"] = tensors["in/embeddings"]
    if "in/low_res" in tensors:
        given["low_res"] = tensors["in/low_res"]
    return given


def assert_close(ours, record, tolerance=2e-4):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= tolerance * max(1.0, record.abs().max().item())


@torch.inference_mode()
@pytest.mark.parametrize("name", TINY)
def test_record_of_a_saved_network(golden, name, tmp_path):
    manifest, tensors = golden(f"point_e/{name}")
    original = network(manifest)
    original.save_pretrained(tmp_path)
    net = type(original).from_pretrained(tmp_path)
    x, timesteps, given = tensors["in/x"], tensors["in/timesteps"], conditions(net, tensors)
    assert_close(net(x, timesteps, **given), tensors["out/model"])
    assert_close(net(x, timesteps, conditions=net.encode_conditions(**given)), tensors["out/model"])


@pytest.mark.parametrize("kind", [PointDiffusionTransformer, PointUpsampler])
def test_a_network_is_saved_with_the_arguments_that_it_takes(kind):
    arguments = set(inspect.signature(kind).parameters)
    assert {name for name in kind(width=64, layers=1, heads=1).config if name[0] != "_"} == arguments


@torch.inference_mode()
def test_an_upsampler_of_a_base_sees_given_points_as_the_base_sees_its_own():
    base = PointDiffusionTransformer(width=32, layers=3, heads=2, clip_width=8, octaves=2).eval()
    torch.nn.init.normal_(base.output_proj.weight)
    given, x, timesteps = 255 * torch.rand(2, 6, 5), torch.randn(2, 6, 7), torch.tensor([10, 900])
    grid = torch.randn(2, 8, 4)
    told = base(torch.cat([scaled(given), x], dim=2), timesteps, grid=grid)[:, :, 5:]
    upsampler = PointUpsampler.from_base(base).eval()
    torch.testing.assert_close(upsampler(x, timesteps, grid=grid, low_res=given), told, atol=1e-5, rtol=1e-4)
    first, _, last = base.backbone.resblocks
    fewer = PointUpsampler.from_base(base, 2).backbone.resblocks
    assert torch.equal(fewer[0].mlp.c_fc.weight, first.mlp.c_fc.weight)
    assert torch.equal(fewer[1].mlp.c_fc.weight, last.mlp.c_fc.weight)
    assert (len(base.backbone.resblocks), len(fewer)) == (3, 2)
    for layers in (0, 4):
        with pytest.raises(ValueError, match="ask for 1 to 3"):
            PointUpsampler.from_base(base, layers)


@torch.inference_mode()
@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_record_of_a_published_size(golden, name):
    manifest, tensors = golden(f"point_e/{name}")
    net = network(manifest, config={})  # the published configurations are the defaults
    assert net.config.heads == manifest["config"]["heads"]
    assert_close(
        net(tensors["in/x"], tensors["in/timesteps"], **conditions(net, tensors)), tensors["out/model"]
    )


@pytest.mark.full
def test_base_1b_loads():
    manifest = json.loads((FULL_GOLDENS / "point_e" / "base1B_full.json").read_text())
    weights = {key: torch.zeros(1).expand(w["shape"]) for key, w in manifest["weights"].items()}
    net = PointDiffusionTransformer.from_original(weights, manifest["config"])
    assert sum(p.numel() for p in net.parameters()) > 1.2e9
    assert (net.config.heads, net.config.layers) == (32, 24)


def test_conditions_added_instead_of_tokens(golden):
    """The originals' other way, which no published network takes: the transformer sees the points alone."""
    manifest, tensors = golden("point_e/base_vector")
    net = network(manifest, manifest["config"] | {"token_cond": False, "time_token_cond": False})
    seen = []
    net.ln_pre.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        out = net(tensors["in/x"], tensors["in/timesteps"], embedding=tensors["in/embeddings"])
    assert out.shape == tensors["out/model"].shape
    assert seen[0].shape == (2, 64, 64)


@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_every_parameter(golden, name):
    manifest, tensors = golden(f"point_e/{name}")
    net = network(manifest).requires_grad_()
    net(tensors["in/x"], tensors["in/timesteps"], **conditions(net, tensors)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@torch.inference_mode()
def test_bfloat16_stays_near_the_record(golden):
    manifest, tensors = golden("point_e/base_grid")
    net = network(manifest).to(torch.bfloat16)
    out = net(tensors["in/x"], tensors["in/timesteps"], grid=tensors["in/embeddings"])
    assert out.dtype == torch.float32
    assert_close(out, tensors["out/model"], tolerance=3e-2)


def test_what_does_not_fit_is_named(golden):
    manifest, tensors = golden("point_e/base_grid")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    with pytest.raises(ValueError, match=r"unknown config key 'width_mult'.*, 'depth'"):
        PointDiffusionTransformer.from_original(weights, {"width_mult": 2, "depth": 3, "heads": 4})
    with pytest.raises(ValueError, match="cond_point_proj"):
        PointUpsampler.from_original(weights, manifest["config"])
    del weights["input_proj.weight"]
    with pytest.raises(ValueError, match=r"input_proj.weight \(missing\)"):
        PointDiffusionTransformer.from_original(weights, manifest["config"])
    net, x, timesteps = network(manifest), tensors["in/x"], tensors["in/timesteps"]
    grid = tensors["in/embeddings"]
    for arguments, message in (
        ({}, "grid is nothing"),
        ({"grid": grid[:, 1:]}, "grid is shape"),
        ({"grid": grid, "embedding": grid[:, :, 0]}, "leave out embedding"),
        ({"grid": grid, "low_res": x}, "no upsampler"),
        ({"grid": grid[:1]}, "2 clouds"),
    ):
        with pytest.raises(ValueError, match=message):
            net(x, timesteps, **arguments)
    with pytest.raises(ValueError, match=r"expected \[N, 6, points\]"):
        net(x[:, :3], timesteps, grid=grid)
