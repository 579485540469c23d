"""How good mini's clouds are: of every pair of words, of pictures that it draws itself, and of true pictures.

    python benchmarks/mini_clouds.py --count 200 --sheet clouds.png
    python benchmarks/mini_clouds.py --count 1000 --of words --points 256 --preset original

Pairs: of "a {colour} {thing}" for all 220, how often Toybox's PointNet++ finds the thing, and how often the mean colour
of the points lies nearest to the asked colour's, beside the same of true clouds. Then of the first scenes of `val` with
one thing, clouds made of their captions, of pictures drawn of these, and of renders: P-FID to the true clouds of other
scenes, and of the renders' clouds the Chamfer distance and F-score to their own true ones. With --points clouds have
fewer, each counted as the several for which it stands, which takes a fraction of the time; before the judge sees them,
and true ones too, points half way to the nearest are added. Prints a line each, and one line of JSON.
"""

import argparse
import json
import time
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from maquette import GlidePipeline, PointEPipeline
from maquette.pipelines.picture_files import check_output
from maquette.point_e import PointCloud
from maquette.point_e.drawing import draw_cloud
from maquette.point_e.evaluation import chamfer_distance, f_score, frechet_distance
from maquette.point_e.evaluation.cloud_judge import judged
from maquette.toybox import COLOURS, THINGS, Scene, is_held_out, make_scene, render
from maquette.toybox.colours import SRGB
from maquette.toybox.sheet import contact_sheet
from mini_glide import PAIRS, words
from PIL import Image
from scipy.spatial import cKDTree
from tqdm import tqdm

ON_SHEET = 40
JUDGED = 1024  # points that the judge sees at least
OF = ("pairs", "words", "drawings", "renders")


def single_scenes(number: int, start: int = 0) -> list[Scene]:
    """So many scenes of `val` with one thing, from scene `start` on."""
    return list(islice((s for i in count(start) if len((s := make_scene("val", i)).objects) == 1), number))


def thickened(cloud: PointCloud) -> PointCloud:
    """A cloud of too few points for the judge with those half way to each one's nearest; any other as it is."""
    if len(cloud) >= JUDGED:
        return cloud
    points = cloud.to_tensor().numpy()
    each = -(-JUDGED // len(cloud))
    nearest = cKDTree(cloud.coords).query(cloud.coords, k=each)[1]
    between = [(points + points[nearest[:, place]]) / 2 for place in range(1, each)]
    return PointCloud.from_tensor(torch.from_numpy(np.concatenate([points, *between])))


def looked_at(clouds: list[PointCloud]):
    """What the judge says of clouds of any number of points."""
    return judged([thickened(cloud) for cloud in clouds])


def made(pipe, many: list, args, settings: dict) -> list[PointCloud]:
    """A cloud of each prompt or picture, number i of seed i after the first one."""
    clouds = []
    for first in tqdm(range(0, len(many), args.batch), unit="batch"):
        some = many[first : first + args.batch]
        told = {"prompt": some} if isinstance(some[0], str) else {"image": some}
        generators = [torch.Generator().manual_seed(args.seed + first + i) for i in range(len(some))]
        clouds += pipe(**told, generator=generators, **settings).clouds
    return clouds


def right(clouds: list[PointCloud], asked: list[tuple[str, str]]) -> dict:
    """Shares of clouds whose thing the judge finds, and whose mean colour is nearest to the asked one."""
    found = looked_at(clouds).log_probabilities.argmax(1)
    means = np.stack([cloud.colors.mean(0) for cloud in clouds])
    known = np.array([SRGB[colour] for colour in COLOURS]) / 255
    nearest = np.linalg.norm(means[:, None] - known, axis=-1).argmin(1)
    things = [THINGS[i] == thing for i, (thing, _) in zip(found, asked, strict=True)]
    colours = [COLOURS[i] == colour for i, (_, colour) in zip(nearest, asked, strict=True)]
    return {"thing": round(float(np.mean(things)), 4), "colour": round(float(np.mean(colours)), 4)}


def of_pairs(pipe, args, settings: dict) -> dict:
    """Of words for every pair of a thing and a colour, and the sheet of some if it is asked for."""
    began = time.perf_counter()
    clouds = made(pipe, [words(*pair) for pair in PAIRS], args, settings)
    seconds = (time.perf_counter() - began) / len(clouds)
    novel = [i for i, pair in enumerate(PAIRS) if is_held_out(*pair)]
    if args.sheet:
        shown = [len(COLOURS) * i + (3 * i + j) % len(COLOURS) for i in range(len(THINGS)) for j in (0, 5)]
        drawings = [draw_cloud(clouds[i], size=128) for i in shown[:ON_SHEET]]
        labels = [words(*PAIRS[i]) for i in shown[:ON_SHEET]]
        contact_sheet(drawings, columns=8, labels=labels).save(args.sheet)
    return {
        "seconds_per_cloud": round(seconds, 3),
        "pairs": right(clouds, PAIRS),
        "pairs, never shown": right([clouds[i] for i in novel], [PAIRS[i] for i in novel]),
    }


def of_scenes(pipe, args, settings: dict) -> dict:
    """Of scenes of one thing: true clouds, and clouds of captions, drawn pictures and renders beside them."""
    results, points = {}, settings["points"]
    scenes = single_scenes(args.count)
    true = [PointCloud.from_tensor(torch.from_numpy(scene.cloud(points))) for scene in scenes]
    others = [
        PointCloud.from_tensor(torch.from_numpy(scene.cloud(points)))
        for scene in single_scenes(args.count, start=10**6)
    ]
    results["true clouds"] = right(
        true, [(scene.objects[0].thing, scene.objects[0].colour) for scene in scenes]
    )
    captions = [scene.caption for scene in scenes]
    told = {
        "words": lambda: captions,
        "drawings": lambda: drawn(args.painter, captions, args.batch),
        "renders": lambda: [Image.fromarray(render(scene, 64)) for scene in scenes],
    }
    sets = {"true": true} | {
        name: made(pipe, told[name](), args, settings) for name in told if name in args.of
    }
    reference = looked_at(others).features
    for name, some in sets.items():
        features = looked_at(some).features
        results[f"P-FID of {name}"] = round(frechet_distance(features, reference), 3)
    if "renders" in sets:
        for name, measure in (("Chamfer", chamfer_distance), ("F-score", f_score)):
            values = [measure(a.coords, b.coords) for a, b in zip(sets["renders"], true, strict=True)]
            results[f"{name} of renders"] = round(float(np.mean(values)), 4)
    return results


def drawn(painter: str, captions: list[str], batch: int) -> list[Image.Image]:
    """A picture of each caption, 64 px."""
    pipe = GlidePipeline.from_pretrained(painter)
    pipe.set_progress_bar_config(disable=True)
    pictures = []
    for first in tqdm(range(0, len(captions), batch), unit="batch"):
        pictures += pipe(captions[first : first + batch], seed=first, size=64).images
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="the name or folder of a model with a Point-E")
    parser.add_argument("--painter", default="mini", help="the model whose GLIDE draws the pictures")
    parser.add_argument("--count", type=int, default=200, help="scenes of val")
    parser.add_argument(
        "--of", nargs="+", choices=OF, default=OF, help="which clouds (default: all of these)"
    )
    parser.add_argument("--points", type=int, help="how many of a cloud's points to make (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--preset", help="a way of sampling (default: the model's)")
    parser.add_argument("--steps", type=int, help="of the base (default: the model's)")
    parser.add_argument("--guidance", type=float, help="of the base (default: the model's)")
    parser.add_argument("--batch", type=int, default=20, help="clouds per call")
    parser.add_argument("--sheet", type=Path, help=f"write a contact sheet of {ON_SHEET} clouds to this file")
    args = parser.parse_args()
    if args.sheet:
        if "pairs" not in args.of:
            parser.error("--sheet shows pairs; add them to --of")
        check_output(args.sheet)
    pipe = PointEPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    given = {"preset": args.preset, "num_inference_steps": args.steps, "guidance_scale": args.guidance}
    settings = {name: value for name, value in given.items() if value is not None}

    points = args.points or pipe.base.config["n_ctx"]
    settings["points"] = points
    results = {"model": args.model, **settings, "seed": args.seed}
    if "pairs" in args.of:
        results |= of_pairs(pipe, args, settings)
    if args.count and set(args.of) != {"pairs"}:
        results |= of_scenes(pipe, args, settings)
    print("\n".join(f"{key:24} {value}" for key, value in results.items()))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
