"""Seconds for a cloud and for a mesh of Point-E's published sizes, beside the original code.

    python benchmarks/point_e.py [--repeats 2] [--grid 128]

base40M makes 1,024 points, `upsample` adds 3,072; weights are made by formula, and a picture's grid is noise, so that
nothing is downloaded. The original runs beside ours, in float32, where `point_e` can be imported (a clone of
openai/point-e on PYTHONPATH; its CLIP is left out, as the grid is given). Its preset takes 127 guided evaluations of
each network, of which one is timed; our default preset is run as a whole. The mesh is that of a torus: our network does
all of its work, and then a formula's distances stand in for its own, as weights by formula have no shape. The original
evaluates every point of its grid, in batches of 4,096, of which one is timed.
"""

import argparse
import sys
import time
from copy import deepcopy
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from maquette.diffusion import normal_draws, seeded_generators
from maquette.layers import prepare
from maquette.pipelines.point_e import PointEPipeline
from maquette.point_e import (
    PointCloud,
    PointDiffusionTransformer,
    PointUpsampler,
    Stage,
    SurfaceModel,
    make_mesh,
    sample_points,
)
from maquette.point_e.sampling import nothing

sys.path.pop(0)  # this folder, where `point_e` would be this file
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "goldens"))
from formula import formula_tensor

EVALUATIONS = 2 * 64 - 1
TOKENS, CHANNELS = 256, 1024
RING, TUBE = 0.3, 0.12  # radii of the torus, in scene units


def network(kind):
    """A published network, float32, with weights by formula."""
    net = kind().eval()
    for key, parameter in net.state_dict().items():
        if key not in ("channel_scales", "channel_biases"):
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
            offset = 1.0 if ".ln_" in f".{key}" and key.endswith("weight") else 0.0
            parameter.copy_(formula_tensor(key, parameter.shape, offset, 0.5 / fan_in**0.5))
    return net


def seconds(step, repeats, warm=True):
    """The fastest of `repeats` runs, after one to warm up or not, and what the last one gave."""
    if warm:
        step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        given = step()
        times.append(time.perf_counter() - start)
    return min(times), given


def inputs(points, low_res):
    """One guided evaluation: the picture's half, then the one of nothing."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, 6, points, generator=draw).expand(2, -1, -1)
    given = {"grid": torch.randn(1, CHANNELS, TOKENS, generator=draw)}
    if low_res:
        given["low_res"] = torch.rand(1, 6, 1024, generator=draw) - 0.5
    return x, torch.full((2,), 500), {k: torch.cat([v, torch.zeros_like(v)]) for k, v in given.items()}


class NoClip:
    """The sizes of the original's CLIP, which is not asked where a grid is given."""

    grid_size, grid_feature_dim, feature_dim = 16, CHANNELS, 768

    def __init__(self, *_, **__):
        pass


def original(name, weights):
    """The original's network of these weights, or None where it is not installed."""
    try:
        from point_e.models import transformer
        from point_e.models.configs import MODEL_CONFIGS, model_from_config
    except ImportError:
        return None
    transformer.FrozenImageCLIP = NoClip
    model = model_from_config(MODEL_CONFIGS[name], torch.device("cpu")).eval()
    model.load_state_dict(weights)
    return model


def in_bfloat16(net):
    # As any module: diffusers' own `to` warns of layers that these networks have not.
    return torch.nn.Module.to(net, torch.bfloat16)


def both_halves(net, x, timesteps, given):
    """A guided evaluation as `sample_points` does it: what is told of nothing has few tokens."""
    seen = {key: value[:1] for key, value in given.items()}
    told = [(net.encode_conditions(**seen), None), nothing(net, seen, x.shape[2])]
    return lambda: torch.cat([net(x[:1], timesteps[:1], conditions=c, counts=n) for c, n in told])


def evaluation(name, kind, points, repeats):
    """Of a guided evaluation the original's seconds, ours in float32 and bfloat16; that one's error; the network."""
    net = network(kind)
    x, timesteps, given = inputs(points, kind is PointUpsampler)
    theirs = original(name, net.state_dict())
    told = {"embeddings" if key == "grid" else key: value for key, value in given.items()}
    reference = theirs and seconds(lambda: theirs(x, timesteps, **told), repeats, warm=False)
    half = prepare(in_bfloat16(deepcopy(net)))
    single, ours = (seconds(both_halves(each, x, timesteps, given), repeats) for each in (net, half))
    exact = single[1] if reference is None else reference[1]
    error = (ours[1] - exact).abs().max() / exact.abs().max()
    return (reference and reference[0], single[0], ours[0]), error.item(), half


def whole_cloud(halves):
    """Seconds that one cloud takes by our default preset, in bfloat16."""
    preset = {name: each.default for name, each in signature(PointEPipeline).parameters.items()}
    stages = [
        Stage(
            schedule,
            preset[steps],
            preset[f"{part}_sigmas"],
            preset[f"{part}_sampler"],
            0.0,
            preset[scale],
            within,
        )
        for part, schedule, steps, scale, within in (
            (
                "base",
                "squaredcos_cap_v2",
                "num_inference_steps",
                "guidance_scale",
                preset["guidance_interval"],
            ),
            ("upsampler", "linear", "upsampler_steps", "upsampler_guidance_scale", None),
        )
    ]
    grid = torch.randn(1, CHANNELS, TOKENS, generator=torch.Generator().manual_seed(0))
    source = seeded_generators(0, 1)
    start = time.perf_counter()
    points = sample_points(halves["base40M"], stages[0], normal_draws(source, (6, 1024)), grid=grid)
    draw = normal_draws(source, (6, 3072))
    sample_points(halves["upsample"], stages[1], draw, grid=grid, low_res=points)
    return time.perf_counter() - start


def torus(count, draw):
    """Points float32 [count, 3] on a torus."""
    a, b = (2 * np.pi * draw.random(count) for _ in range(2))
    xy = (RING + TUBE * np.cos(b))[:, None] * np.stack([np.cos(a), np.sin(a)], axis=1)
    return np.concatenate([xy, (TUBE * np.sin(b))[:, None]], axis=1).astype(np.float32)


class OnTorus:
    """A surface model that works as hard as a network, whose distances are a torus's."""

    def __init__(self, net):
        self.net, self.device, self.encode = net, net.device, net.encode

    def __call__(self, places, encoded):
        worked = 0 * self.net(places, encoded=encoded)
        return worked + (places[:, :2].norm(dim=1) - RING).hypot(places[:, 2]) - TUBE


@torch.inference_mode()
def meshing(grid_size, repeats):
    """The original's seconds for a mesh, ours in bfloat16, and the error of that's distances."""
    net = network(SurfaceModel)
    half = prepare(in_bfloat16(deepcopy(net)))
    points = torus(4096, np.random.default_rng(1))
    cloud = PointCloud(points, np.full_like(points, 0.5))
    told, queries = torch.from_numpy(points).T[None], torch.rand(1, 3, 4096) - 0.5
    theirs = original("sdf", net.state_dict())
    reference = None
    if theirs is not None:
        encoded = seconds(lambda: theirs.encode_point_clouds(told), repeats)
        one = seconds(lambda: theirs(queries, encoded=encoded[1]), repeats)
        reference = encoded[0] + one[0] * grid_size**3 / 4096
    taken, _ = seconds(lambda: make_mesh(OnTorus(half), cloud, grid_size), repeats)
    exact, ours = (each(queries, point_clouds=told) for each in (net, half))
    return reference, taken, ((ours - exact).abs().max() / exact.abs().max()).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--mesh-only", action="store_true")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, seconds:")
    print(LINE.format("", "original float32", "ours float32", "ours bfloat16", "original / ours"))
    if not options.mesh_only:
        clouds(options.repeats)
    reference, taken, error = meshing(options.grid, options.repeats)
    row(f"a mesh, grid {options.grid}", reference, None, taken)
    print(f"error of distances in bfloat16, the largest in parts of the largest: {error:.4f}")


@torch.inference_mode()
def clouds(repeats):
    rows, errors, halves = [], [], {}
    for name, kind, points in (
        ("base40M", PointDiffusionTransformer, 1024),
        ("upsample", PointUpsampler, 3072),
    ):
        times, error, halves[name] = evaluation(name, kind, points, repeats)
        row(f"{name}, one guided evaluation", *times)
        rows.append(times)
        errors.append(f"{name} {error:.4f}")
    whole = [None if column[0] is None else EVALUATIONS * sum(column) for column in zip(*rows, strict=True)]
    row("a cloud, preset original", *whole)
    row("a cloud, default preset", whole[0], None, whole_cloud(halves))
    print(f"error in bfloat16, the largest in parts of the largest number: {', '.join(errors)}")


LINE = "{:32} {:>16} {:>14} {:>14} {:>16}"


def row(name, theirs, single, ours):
    cells = [f"{t:.2f}" if t is not None else "-" for t in (theirs, single, ours)]
    print(LINE.format(name, *cells, "-" if theirs is None else f"{theirs / ours:.1f}x"), flush=True)


if __name__ == "__main__":
    main()
