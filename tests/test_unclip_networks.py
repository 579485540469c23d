"""unCLIP's networks and their sampling against what the original computed."""

from functools import partial

import pytest
import torch
from goldens.formula import formula_state_dict, formula_tensor
from maquette.diffusion import clipped, make_scheduler, normal_draws, sample, seeded_generators
from maquette.layers import prepare
from maquette.unclip import (
    DiffusionPrior,
    TextConditions,
    UnCLIPDecoder,
    UnCLIPUpsampler,
    decoder_denoiser,
    prior_denoiser,
    upsampler_denoiser,
)

NETWORKS = {"prior": DiffusionPrior, "decoder": UnCLIPDecoder, "upsampler": UnCLIPUpsampler}
CONDITIONS = ("image_embedding", "text_embedding", "text_states", "mask", "low_res")
PREFIXES = {"model.": "", "model_first_steps.": "first.", "model_last_step.": "last."}


def original(golden, name):
    """(network, tensors of its record)."""
    manifest, tensors = golden(f"karlo/{name}")
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    weights |= {key: tensors[f"in/{key}"] for key in ("clip_mean", "clip_std") if f"in/{key}" in tensors}
    return NETWORKS[name].from_original(weights, manifest["config"]), tensors


def conditions_of(tensors, rows=slice(None)):
    return {name: tensors[f"in/{name}"][rows] for name in CONDITIONS if f"in/{name}" in tensors}


def assert_close(ours, record, tolerance=2e-4):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= tolerance * max(1.0, record.abs().max().item())


@torch.inference_mode()
@pytest.mark.parametrize("name", NETWORKS)
def test_record_of_a_saved_network(golden, name, tmp_path):
    net, tensors = original(golden, name)
    x, timesteps, conditions = tensors["in/x"], tensors["in/timesteps"], conditions_of(tensors)
    ours = net(x, timesteps, **conditions)
    assert_close(ours, tensors["out/first" if name == "upsampler" else "out/model"])
    net.save_pretrained(tmp_path)
    again = NETWORKS[name].from_pretrained(tmp_path)
    assert_close(again(x, timesteps, **conditions), ours, tolerance=1e-5)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    assert_close(prepare(again)(x, timesteps, **conditions), ours)
    if name == "decoder":
        conditioning = net.encode_conditions(**conditions)
        assert torch.equal(net(x, timesteps, conditioning=conditioning), ours)


@torch.inference_mode()
def test_the_upsamplers_last_step_has_its_own_network(golden):
    net, tensors = original(golden, "upsampler")
    x, timesteps, low_res = (tensors[f"in/{name}"] for name in ("x", "timesteps", "low_res"))
    assert_close(net.last.denoise(torch.cat([x, low_res], dim=1), timesteps), tensors["out/last"])
    zeros = torch.zeros_like(timesteps)
    at_zero = net(x, zeros, low_res)
    assert torch.equal(at_zero, net.last.denoise(torch.cat([x, low_res], dim=1), zeros))
    with pytest.raises(ValueError, match="do not mix it"):
        net(torch.cat([x, x]), torch.tensor([0, 5]), torch.cat([low_res, low_res]))


@torch.inference_mode()
def test_a_small_picture_is_resized_as_the_original_does(golden):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize

    net, tensors = original(golden, "upsampler")
    x, timesteps, small = tensors["in/x"], tensors["in/timesteps"], torch.randn(1, 3, 8, 8)
    large = resize(small, [32, 32], InterpolationMode.BICUBIC, antialias=True)
    torch.testing.assert_close(net(x, timesteps, small), net(x, timesteps, large))


def trajectory(net, tensors, draw, rows=1):
    """As Karlo samples, with the guidance of the record; `rows` copies of its one sample."""
    steps = {DiffusionPrior: 25, UnCLIPDecoder: 12, UnCLIPUpsampler: 7}[type(net)]
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", steps)
    if isinstance(net, UnCLIPUpsampler):
        low_res = tensors["in/low_res"].repeat(rows, 1, 1, 1)
        return sample(upsampler_denoiser(net, low_res, scheduler.alphas_cumprod), scheduler, draw(), draw)
    conditions = TextConditions(*(tensors[f"in/{name}"] for name in CONDITIONS[1:4]))
    text, wordless = (conditions.rows(torch.tensor([row] * rows)) for row in (0, 1))
    if isinstance(net, DiffusionPrior):
        denoise = prior_denoiser(net, text, wordless, 4.0)
        return net.denormalise(sample(denoise, scheduler, draw(), draw))
    embedding = tensors["in/image_embedding"][:1].expand(rows, -1)
    denoise = decoder_denoiser(net, embedding, text, wordless, 8.0, scheduler.alphas_cumprod)
    return sample(clipped(denoise), scheduler, draw(), draw)


@pytest.mark.parametrize("name", NETWORKS)
def test_ancestral_sampling_is_the_originals(golden, name):
    net, tensors = original(golden, name)
    draw = partial(next, (noise[:1] for noise in tensors["in/ddpm/noise"]))
    assert_close(trajectory(net, tensors, draw), tensors["out/ddpm"], tolerance=2e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sample_does_not_depend_on_its_batch(golden, name):
    net, tensors = original(golden, name)
    shape = tensors["out/ddpm"].shape[1:]
    batch, alone = (
        trajectory(net, tensors, normal_draws(seeded_generators(seed, rows), shape), rows)
        for seed, rows in ((7, 3), (9, 1))
    )
    same, other = ((batch[row] - alone[0]).abs().max() for row in (2, 1))
    assert same <= 2e-3 and other > 50 * same


@torch.inference_mode()
def test_the_decoder_in_bfloat16(golden):
    """Numbers of 8 bits through all its layers: within 3 % of the record's root mean square (1.7 % is usual)."""
    net, tensors = original(golden, "decoder")
    ours = prepare(net.to(torch.bfloat16))(tensors["in/x"], tensors["in/timesteps"], **conditions_of(tensors))
    record = tensors["out/model"]
    assert ours.dtype == torch.float32
    assert (ours - record).square().mean().sqrt() <= 0.03 * record.square().mean().sqrt()


def test_a_priors_embeddings_are_normalised_and_back(golden):
    net, tensors = original(golden, "prior")
    embedding = tensors["in/clip_mean"] + 2 * tensors["in/clip_std"] * torch.randn(3, 48)
    torch.testing.assert_close(net.denormalise(net.normalise(embedding)), embedding)
    at_mean = net.normalise(tensors["in/clip_mean"][None])
    torch.testing.assert_close(at_mean, torch.zeros(1, 48))


def test_what_does_not_fit_is_named(golden):
    for name, cls in NETWORKS.items():
        manifest, _ = golden(f"karlo/{name}")
        weights = formula_state_dict(manifest["weights"], manifest["salt"])
        with pytest.raises(ValueError, match="unknown config key 'widht'"):
            cls.from_original(weights, {"widht": 3})
        with pytest.raises(ValueError, match=r"extra \(unexpected\)"):
            cls.from_original(weights | {"extra": torch.zeros(1)}, manifest["config"])
        with pytest.raises(ValueError, match=r"checkpoint: key .* is missing"):
            cls.from_original({}, manifest["config"])
    net, tensors = original(golden, "prior")
    conditions = conditions_of(tensors) | {"text_states": torch.zeros(2, 5, 48)}
    with pytest.raises(ValueError, match=r"text_states has shape \(2, 5, 48\); expected \(2, 12, 48\)"):
        net(tensors["in/x"], tensors["in/timesteps"], **conditions)
    net, tensors = original(golden, "decoder")
    with pytest.raises(ValueError, match="pass image_embedding="):
        net(tensors["in/x"], tensors["in/timesteps"])


@torch.inference_mode()
@pytest.mark.full
@pytest.mark.parametrize("name", NETWORKS)
def test_record_of_a_published_size(golden, name):
    """The published configuration is the default. Weights are made one after the other, never all of them twice."""
    manifest, tensors = golden(f"karlo/{name}_full")
    net = NETWORKS[name].from_original(
        {key: torch.zeros(()).expand(w["shape"]) for key, w in manifest["weights"].items()}
    )
    places = net.state_dict()
    for key, w in manifest["weights"].items():
        prefix = next(prefix for prefix in PREFIXES if key.startswith(prefix))
        place = places[PREFIXES[prefix] + key.removeprefix(prefix)]
        place.copy_(formula_tensor(key, w["shape"], w["offset"], w["scale"], manifest["salt"]).view_as(place))
    assert all(
        net.config[key] == value or list(net.config[key]) == value
        for key, value in manifest["config"].items()
    )
    ours = net(tensors["in/x"], tensors["in/timesteps"], **conditions_of(tensors))
    record = tensors["out/first" if name == "upsampler" else "out/model"]
    stride = ours.shape[-1] // record.shape[-1]
    assert_close(ours[..., ::stride, ::stride] if stride > 1 else ours, record)
