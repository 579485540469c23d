"""How often mini draws what it was asked for: every (colour, thing) pair, judged by Toybox's classifier.

    python benchmarks/mini_glide.py --model mini --seeds 2 --sheet sheet.png
    python benchmarks/mini_glide.py --best-of 8 --pictures runs/best-of

Prints a table, with the pairs that training never showed apart, how far the texture is from the renders', and one line
of JSON. With --best-of it draws that many pictures of each pair, seeds 0, 1, …, and compares the first, and all, with
the one that mini's CLIP likes best.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from maquette.clip import ClipModel
from maquette.pipelines import GlidePipeline, UnCLIPPipeline
from maquette.pipelines.picture_files import check_output, save_pictures
from maquette.toybox import COLOURS, THINGS, Scene, Toy, is_held_out, render
from maquette.toybox.judge import Judge
from maquette.toybox.sheet import contact_sheet
from maquette.toybox.texture import gradient_energy, texture_distance
from PIL import Image
from tqdm import tqdm

PAIRS = [(thing, colour) for thing in THINGS for colour in COLOURS]
ON_SHEET = 40


def words(thing: str, colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}"


def drawing_arguments(doc: str, on_sheet: int) -> argparse.ArgumentParser:
    """What every benchmark that draws can be told; `doc` is its own docstring."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--via", choices=("glide", "unclip"), default="glide", help="which of its ways")
    parser.add_argument(
        "--pictures", type=Path, help="keep the pictures here, and draw only those that are not there"
    )
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the pipeline's)")
    parser.add_argument("--size", type=int, help="pixels of a side (default: the pipeline's)")
    parser.add_argument("--batch", type=int, default=44, help="pictures per call")
    parser.add_argument(
        "--sheet", type=Path, help=f"write a contact sheet of {on_sheet} pictures to this file"
    )
    return parser


def drawing_pipeline(args):
    """The pipeline that was asked for, without a progress bar."""
    pipe = {"glide": GlidePipeline, "unclip": UnCLIPPipeline}[args.via].from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawing_settings(pipe, args) -> dict:
    """What the pipeline is called with: what was said, else its own defaults."""
    settings = {
        "num_inference_steps": pipe.config["num_inference_steps"] if args.steps is None else args.steps,
        "guidance_scale": pipe.config["guidance_scale"] if args.guidance is None else args.guidance,
    }
    return settings if args.via == "unclip" else {**settings, "size": args.size or pipe.image_size}


def drawn(pipe, captions: list[str], settings: dict, args) -> list[Image.Image]:
    """A picture of each caption, number i of seed i; those that are in the folder already are read from it."""
    images, missing = {}, []
    for i in range(len(captions)):
        path = args.pictures and args.pictures / f"{i:05d}.png"
        if path and path.is_file():
            images[i] = Image.open(path).convert("RGB")
        else:
            missing.append(i)
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    for first in tqdm(range(0, len(missing), args.batch), unit="batch"):
        numbers = missing[first : first + args.batch]
        generators = [torch.Generator().manual_seed(i) for i in numbers]
        made = pipe([captions[i] for i in numbers], generator=generators, **settings).images
        for i, image in zip(numbers, made, strict=True):
            images[i] = image
            if args.pictures:
                save_pictures([(args.pictures / f"{i:05d}.png", image, {})])
    return [images[i] for i in range(len(captions))]


def texture(drawings: list[Image.Image], scenes: list[Scene]) -> dict:
    """How far the drawings' texture is from that of renders of their scenes, and how far other renders of them are."""
    size = drawings[0].width
    renders, others = (
        np.stack([render(replace(scene, index=scene.index + shift), size) for scene in scenes])
        for shift in (0, 10**9)
    )
    results = {
        "texture": round(texture_distance(drawings, renders), 3),
        "texture_floor": round(texture_distance(others, renders), 3),
        "gradient_energy": round(gradient_energy(drawings) / gradient_energy(renders), 3),
    }
    print(f"texture distance to renders {results['texture']} (of other renders {results['texture_floor']})")
    print(f"gradient energy {results['gradient_energy']} of the renders'")
    return results


def compare_best(images: list[Image.Image], args) -> dict:
    """Both-right rates by the judge: of the first picture of each pair, of all, and of the one CLIP likes best."""
    clip, count = ClipModel.from_pretrained(args.clip), len(PAIRS)
    found = Judge.load().name(images)
    rounds = range(args.best_of)
    vectors = clip.embed_images(images).view(args.best_of, count, -1)
    texts = clip.embed_texts([words(*pair) for pair in PAIRS])
    chosen = (vectors * texts).sum(-1).argmax(0).tolist()
    right = [[found[r * count + i] == pair for r in rounds] for i, pair in enumerate(PAIRS)]
    results = {"model": args.model, "clip": args.clip, "prompts": count, "best_of": args.best_of}
    print(f"{'pairs':8} {'prompts':>8} {'best of 1':>10} {'any one':>10} {f'best of {args.best_of}':>10}")
    for name, held_out in (("all", (False, True)), ("train", (False,)), ("novel", (True,))):
        some = [i for i, pair in enumerate(PAIRS) if is_held_out(*pair) in held_out]
        first = sum(right[i][0] for i in some) / len(some)
        any_one = sum(sum(right[i]) for i in some) / len(some) / args.best_of
        best = sum(right[i][chosen[i]] for i in some) / len(some)
        print(f"{name:8} {len(some):8} {first:10.1%} {any_one:10.1%} {best:10.1%}")
        results[name] = {"best_of_1": round(first, 4), "any_one": round(any_one, 4), "best": round(best, 4)}
    return results


def main() -> None:
    parser = drawing_arguments(__doc__, ON_SHEET)
    parser.add_argument("--seeds", type=int, default=2, help="pictures per pair")
    parser.add_argument("--best-of", type=int, help="pictures per pair, of which CLIP chooses one")
    parser.add_argument("--clip", default="mini", help="the CLIP that chooses: a model's name or folder")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error("--seeds must be at least 1")
    if args.sheet:
        check_output(args.sheet)
    pipe = drawing_pipeline(args)
    pipe("a red chair", seed=0)
    began = time.perf_counter()
    pipe("a red chair", seed=0)
    print(f"one picture alone, default steps: {time.perf_counter() - began:.2f} s of sampling")
    settings = drawing_settings(pipe, args)
    wanted = PAIRS * (args.best_of or args.seeds)
    began = time.perf_counter()
    images = drawn(pipe, [words(*pair) for pair in wanted], settings, args)
    seconds = (time.perf_counter() - began) / len(images)
    if args.best_of:
        print(json.dumps(compare_best(images, args) | settings))
        return

    found = Judge.load().name(images)
    results = {"model": args.model, "via": args.via, **settings, "seconds_per_picture": round(seconds, 3)}
    print(f"{'pairs':8} {'pictures':>8} {'thing':>8} {'colour':>8} {'both':>8}")
    for name, held_out in (("all", (False, True)), ("train", (False,)), ("novel", (True,))):
        chosen = [(w, f) for w, f in zip(wanted, found, strict=True) if is_held_out(*w) in held_out]
        right = {
            "thing": sum(w[0] == f[0] for w, f in chosen) / len(chosen),
            "colour": sum(w[1] == f[1] for w, f in chosen) / len(chosen),
            "both": sum(w == f for w, f in chosen) / len(chosen),
        }
        print(f"{name:8} {len(chosen):8}", *(f"{share:8.1%}" for share in right.values()))
        results[name] = {"pictures": len(chosen), **{key: round(share, 4) for key, share in right.items()}}
    scenes = [Scene("val", i, (Toy(*pair),), None, words(*pair)) for i, pair in enumerate(wanted)]
    print(json.dumps(results | texture(images, scenes)))

    if args.sheet:
        # A stride that shares no factor with 20 × 11 runs through things and colours alike.
        shown = [i * 27 % len(PAIRS) for i in range(ON_SHEET)]
        sheet = contact_sheet(
            [images[i] for i in shown], columns=8, labels=[words(*wanted[i]) for i in shown], scale=2
        )
        sheet.save(args.sheet)
        print(f"wrote {args.sheet}")


if __name__ == "__main__":
    main()
