"""Which few steps draw as well as many: solver × steps × guidance interval, by texture and by the judges.

    python benchmarks/glide_presets.py --model mini --pictures 96
    python benchmarks/glide_presets.py --samplers sde-dpm++ --steps 25 --intervals all 0.3-5 --guidance 2 3 4
    python benchmarks/glide_presets.py --stage upsampler --steps 6 10 --strengths 0.4 1

Draws captions of Toybox's first `val` scenes, half of one thing and half of two, with each way of sampling, the same
seeds for all. It prints how far the pictures' texture is from renders of those scenes, and how much farther than with
the preset "original" of 100 steps, which comes first; their gradient energy beside the renders'; how many pictures of
one thing show it in its colour, how many of two show both, and in how many of these they stand as asked; how often the
network ran for a picture, a guided step being two, and the seconds that one took. The second row is the model's own
way. An interval holds the noise levels, lowest and highest, at which guidance is used (see `scale_between`). All
upsamplers enlarge the same pictures, which the base draws once.
"""

import argparse
import json
import time
from inspect import signature
from itertools import count, islice, product
from typing import Any

import maquette
from maquette.diffusion import GlideUNet
from maquette.diffusion.schedules import SAMPLERS, SOLVERS
from maquette.pipelines import GlidePipeline
from maquette.pipelines.base import as_pictures
from maquette.pipelines.presets import PRESETS
from maquette.toybox import Scene, make_scene, render
from maquette.toybox.judge import Judge
from maquette.toybox.pair_judge import PairJudge
from maquette.toybox.texture import gradient_energy, texture_distance
from PIL import Image
from torch import Tensor

COLUMNS = ("texture", "sharpness", "one thing", "two things", "relation", "network runs", "seconds")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--pictures", type=int, default=96, help="captions, one picture each")
    parser.add_argument("--stage", choices=("base", "upsampler"), default="base", help="whose steps vary")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SOLVERS[:2])
    parser.add_argument("--steps", nargs="+", type=int, default=(12, 20))
    parser.add_argument("--guidance", nargs="+", type=float, help="of the base (default: the model's)")
    parser.add_argument(
        "--intervals",
        nargs="+",
        default=("all", "0.3-5"),
        help="of the base: LOW-HIGH, or all; (default: %(default)s)",
    )
    parser.add_argument("--strengths", nargs="+", type=float, help="of the upsampler (default: the model's)")
    args = parser.parse_args()
    if args.pictures < 4:
        parser.error("--pictures must be at least 4")
    return args


def ways(args) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings of a GlidePipeline) of each way to sample."""
    if args.stage == "upsampler":
        strengths = [{"upsampler_strength": share} for share in args.strengths] if args.strengths else [{}]
        return [
            (
                ", ".join(map(str, [sampler, steps, *strength.values()])),
                {"upsampler_sampler": sampler, "upsampler_steps": steps, **strength},
            )
            for sampler, steps, strength in product(args.samplers, args.steps, strengths)
        ]
    scales = [{"guidance_scale": scale} for scale in args.guidance] if args.guidance else [{}]
    return [
        (
            ", ".join(map(str, [sampler, steps, interval, *scale.values()])),
            {
                "sampler": sampler,
                "num_inference_steps": steps,
                "guidance_interval": None if interval == "all" else tuple(map(float, interval.split("-"))),
                **scale,
            },
        )
        for sampler, steps, interval, scale in product(args.samplers, args.steps, args.intervals, scales)
    ]


def with_settings(pipe: GlidePipeline, settings: dict[str, Any]) -> GlidePipeline:
    """The same networks with other settings."""
    arguments = {
        name: pipe.config[name] for name in signature(GlidePipeline).parameters if name not in pipe.parts
    }
    other = GlidePipeline(**{name: getattr(pipe, name) for name in pipe.parts}, **arguments | settings)
    other.set_progress_bar_config(disable=True)
    return other


def scenes_of(things: int, number: int) -> list[Scene]:
    """The first `val` scenes of so many things."""
    found = (scene for i in count() if len((scene := make_scene("val", i)).objects) == things)
    return list(islice(found, number))


def drawn(pipe: GlidePipeline, scenes: list[Scene], size: int, small: Tensor | None) -> list[Image.Image]:
    """A picture of each scene's caption, or what the upsampler makes of `small`, [N, 3, 64, 64] in [-1, 1]."""
    captions, pictures = [scene.caption for scene in scenes], []
    if small is None:
        return pipe(captions, seed=0, size=size).images
    request, rows = pipe.request(captions, 1, None, None, 0, None), pipe.rows_at_once(size)
    for first in range(0, len(captions), rows):
        some = slice(first, first + rows)
        x = pipe.upsample(request.rows(some), small[some], size, lambda *step, **stage: None)
        pictures += as_pictures(x, "pil")
    return pictures


def measured(
    pipe: GlidePipeline, network: GlideUNet, scenes: list[Scene], renders: list, small: Tensor | None
) -> dict[str, float]:
    """What COLUMNS says. scenes: first those of one thing; network: whose runs count; small: as in `drawn`."""
    runs: list[int] = []
    hook = network.register_forward_pre_hook(lambda _, given: runs.append(len(given[0])))
    began = time.perf_counter()
    pictures = drawn(pipe, scenes, network.config["image_size"], small)
    seconds = time.perf_counter() - began
    hook.remove()
    singles = [scene for scene in scenes if not scene.relation]
    wanted = [(scene.objects[0].thing, scene.objects[0].colour) for scene in singles]
    named = Judge.load().name(pictures[: len(singles)])
    pairs, relations = PairJudge.load().right(pictures[len(singles) :], scenes[len(singles) :])
    found = (
        texture_distance(pictures, renders),
        gradient_energy(pictures) / gradient_energy(renders),
        sum(one == other for one, other in zip(named, wanted, strict=True)) / len(wanted),
        pairs.mean(),
        relations.sum() / max(1, pairs.sum()),
        sum(runs) / len(pictures),
        seconds / len(pictures),
    )
    return {column: round(float(value), 4) for column, value in zip(COLUMNS, found, strict=True)}


def main() -> None:
    args = arguments()
    pipe = with_settings(maquette.pipeline("text-to-image", model=args.model), {})
    if args.stage == "upsampler" and pipe.upsampler is None:
        raise SystemExit(f"{args.model} has no upsampler")
    network = pipe.unet if args.stage == "base" else pipe.upsampler
    size = network.config["image_size"]
    scenes = [scene for things in (1, 2) for scene in scenes_of(things, args.pictures // 2)]
    renders = [Image.fromarray(render(scene, size)) for scene in scenes]
    small = None
    if args.stage == "upsampler":
        images = pipe(
            [scene.caption for scene in scenes], seed=0, size=pipe.unet.config["image_size"], output_type="pt"
        )
        small = (2 * images.images - 1).to(pipe.device)
    original = {
        name: value
        for name, value in PRESETS["glide"]["original"].items()
        if name.startswith("upsampler") == (args.stage == "upsampler")
    }
    results = {}
    print(f"{len(scenes)} pictures of {size} px\n{'':28}", *(f"{column:>12}" for column in COLUMNS))
    for name, settings in [("original", original), ("the model's", {}), *ways(args)]:
        found = results[name] = measured(with_settings(pipe, settings), network, scenes, renders, small)
        farther = found["texture"] / results["original"]["texture"] - 1
        cells = [f"{found['texture']:.3f} {farther:+.0%}"]
        cells += [f"{found[column]:.0%}" for column in COLUMNS[1:5]]
        cells += [f"{found['network runs']:.0f}", f"{found['seconds']:.2f}"]
        print(f"{name:28}", *(f"{cell:>12}" for cell in cells), flush=True)
    print(json.dumps({"model": args.model, "stage": args.stage, "pictures": len(scenes)} | results))


if __name__ == "__main__":
    main()
