"""Which few steps draw as well as many: solver × steps × guidance interval, by texture and by the judge of one thing.

    python benchmarks/glide_presets.py --model mini --pictures 64
    python benchmarks/glide_presets.py --stage upsampler --steps 6 10 16

Draws the captions of Toybox's first one-thing `val` scenes with each way of sampling, the same seeds for all, and
prints how far the pictures' texture is from renders of those scenes, how many show the right thing and colour, and the
seconds that a picture takes; first for the preset "original", whose distance the others have to come near, then for the
model's own settings. The other stage always samples as the model says. An interval holds the noise levels, lowest and
highest, at which guidance is used (see `scale_between`).
"""

import argparse
import json
import time
from inspect import signature
from itertools import count, islice, product
from typing import Any

import maquette
from maquette.diffusion.schedules import SAMPLERS, SOLVERS
from maquette.pipelines import GlidePipeline
from maquette.pipelines.presets import PRESETS
from maquette.toybox import Scene, make_scene, render
from maquette.toybox.judge import Judge
from maquette.toybox.texture import texture_distance
from PIL import Image
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

INTERVALS = ("all", "0.1-10", "0.3-10", "0.3-5")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--pictures", type=int, default=64, help="captions, one picture each")
    parser.add_argument("--stage", choices=("base", "upsampler"), default="base", help="whose steps vary")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SOLVERS)
    parser.add_argument("--steps", nargs="+", type=int, default=(12, 20))
    parser.add_argument(
        "--intervals",
        nargs="+",
        default=INTERVALS,
        help="of the base: LOW-HIGH, or all; (default: %(default)s)",
    )
    args = parser.parse_args()
    if args.pictures < 2:
        parser.error("--pictures must be at least 2")
    return args


def ways(args) -> list[tuple[str, dict[str, Any]]]:
    """(name, settings of a GlidePipeline) of each way to sample."""
    if args.stage == "upsampler":
        pairs = product(args.samplers, args.steps)
        return [(f"{s}, {n}", {"upsampler_sampler": s, "upsampler_steps": n}) for s, n in pairs]
    return [
        (
            f"{sampler}, {steps}, {interval}",
            {
                "sampler": sampler,
                "num_inference_steps": steps,
                "guidance_interval": None if interval == "all" else tuple(map(float, interval.split("-"))),
            },
        )
        for sampler, steps, interval in product(args.samplers, args.steps, args.intervals)
    ]


def with_settings(pipe: GlidePipeline, settings: dict[str, Any]) -> GlidePipeline:
    """The same networks with other settings."""
    arguments = {
        name: pipe.config[name] for name in signature(GlidePipeline).parameters if name not in pipe.parts
    }
    other = GlidePipeline(**{name: getattr(pipe, name) for name in pipe.parts}, **arguments | settings)
    other.set_progress_bar_config(disable=True)
    return other


def single_scenes(number: int) -> list[Scene]:
    return list(islice((scene for i in count() if not (scene := make_scene("val", i)).relation), number))


def measured(pipe: GlidePipeline, scenes: list[Scene], renders: list, size: int) -> dict[str, float]:
    """Seconds a picture, distance of texture from the renders, and the share that the judge names rightly."""
    began = time.perf_counter()
    pictures = pipe([scene.caption for scene in scenes], seed=0, size=size).images
    seconds = (time.perf_counter() - began) / len(pictures)
    named = Judge.load().name([picture.resize((64, 64), Image.Resampling.BOX) for picture in pictures])
    wanted = [(scene.objects[0].thing, scene.objects[0].colour) for scene in scenes]
    right = sum(one == other for one, other in zip(named, wanted, strict=True)) / len(wanted)
    return {"texture": texture_distance(pictures, renders), "right": right, "seconds": seconds}


def main() -> None:
    args = arguments()
    pipe = with_settings(maquette.pipeline("text-to-image", model=args.model), {})
    if args.stage == "upsampler" and pipe.upsampler is None:
        raise SystemExit(f"{args.model} has no upsampler")
    size = (pipe.unet if args.stage == "base" else pipe.upsampler).config["image_size"]
    scenes = single_scenes(args.pictures)
    renders = [render(scene, size) for scene in scenes]
    original = {
        name: value
        for name, value in PRESETS["glide"]["original"].items()
        if name.startswith("upsampler") == (args.stage == "upsampler")
    }
    results = {}
    table = Table("sampler, steps, guidance interval", "texture", "right", "seconds a picture")
    for name, settings in tqdm([("original", original), ("the model's", {}), *ways(args)]):
        found = measured(with_settings(pipe, settings), scenes, renders, size)
        results[name] = {key: round(value, 4) for key, value in found.items()}
        table.add_row(name, f"{found['texture']:.3f}", f"{found['right']:.1%}", f"{found['seconds']:.2f}")
    Console(width=100).print(f"{args.pictures} pictures of {size} px", table)
    print(json.dumps({"model": args.model, "stage": args.stage, "pictures": args.pictures} | results))


if __name__ == "__main__":
    main()
