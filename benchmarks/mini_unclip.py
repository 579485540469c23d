"""What mini's unCLIP keeps and changes: variations of renders, edits of their colour, and how unlike its pictures are.

    python benchmarks/mini_unclip.py --model mini --count 200 --sheet variations.png
    python benchmarks/mini_unclip.py --only edits --guidance 2 --strength 0.5

Variations: renders of `val` with one thing and with two, drawn anew, and judged. Edits: a render
of one thing, "a red car", with another colour, "a blue car". Unlikeness: the mean distance, 1 - cosine of mini's CLIP,
between four pictures of one render or of one prompt, beside GLIDE's of these prompts at the same guidance.
Prints a line each, and one line of JSON.
"""

import argparse
import json
from itertools import combinations, count, islice
from pathlib import Path

import numpy as np
import torch
from maquette.clip import ClipModel
from maquette.pipelines import GlidePipeline, UnCLIPPipeline, UnCLIPVariationPipeline
from maquette.pipelines.latent_edits import edit
from maquette.pipelines.picture_files import check_output
from maquette.toybox import COLOURS, Scene, is_held_out, make_scene, render
from maquette.toybox.judge import Judge
from maquette.toybox.pair_judge import PairJudge
from maquette.toybox.sheet import contact_sheet
from mini_glide import words
from PIL import Image
from tqdm import tqdm

PARTS = ("variations", "edits", "unlikeness")
ON_SHEET = 8
EACH = 4  # pictures that are compared with each other


def renders(things: int, number: int, size: int = 256) -> tuple[list[Scene], list[Image.Image]]:
    """The first scenes of `val` with so many things, and their pictures."""
    scenes = (scene for i in count() if len((scene := make_scene("val", i)).objects) == things)
    some = list(islice(scenes, number))
    return some, [Image.fromarray(render(scene, size)) for scene in some]


def drawn(call, many: list, batch: int, **settings) -> list[Image.Image]:
    """A picture of each, number i of seed i."""
    images = []
    for first in tqdm(range(0, len(many), batch), unit="batch"):
        seeds = range(first, min(first + batch, len(many)))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images += call(many[first : first + batch], generator=generators, **settings).images
    return images


def variations(pipe, args, settings) -> dict:
    results = {}
    for things in (1, 2):
        scenes, pictures = renders(things, args.count)
        images = drawn(pipe, pictures, args.batch, **args.strengths, **settings)
        if things == 1:
            asked = [(scene.objects[0].thing, scene.objects[0].colour) for scene in scenes]
            right = [a == b for a, b in zip(asked, Judge.load().name(images), strict=True)]
        else:
            right, _ = PairJudge.load().right(images, scenes)
        results[f"variations of {things}"] = round(float(np.mean(right)), 4)
        if args.sheet:
            shown = [image for both in zip(pictures, images, strict=True) for image in both][: 4 * ON_SHEET]
            contact_sheet(shown, columns=8).save(args.sheet.with_stem(f"{args.sheet.stem}-{things}"))
    return results


def edits(pipe, args, settings) -> dict:
    scenes, pictures = renders(1, args.count // 2)
    chance = np.random.default_rng(0)
    images, asked = [], []
    for scene, picture in tqdm(list(zip(scenes, pictures, strict=True)), unit="edit"):
        thing, before = scene.objects[0].thing, scene.objects[0].colour
        others = [colour for colour in COLOURS if colour != before and not is_held_out(thing, colour)]
        after = others[chance.integers(len(others))]
        images += edit(
            pipe, picture, words(thing, before), words(thing, after), **args.strengths, **settings
        ).images
        asked.append((thing, after))
    found = Judge.load().name(images)
    if args.sheet:
        shown = [image for both in zip(pictures, images, strict=True) for image in both][: 4 * ON_SHEET]
        labels = [text for pair in asked for text in ("before", words(*pair))][: 4 * ON_SHEET]
        contact_sheet(shown, columns=8, labels=labels).save(args.sheet.with_stem(f"{args.sheet.stem}-edits"))
    return {
        "edits with the new colour": round(
            np.mean([a[1] == f[1] for a, f in zip(asked, found, strict=True)]), 4
        ),
        "edits with the thing kept": round(
            np.mean([a[0] == f[0] for a, f in zip(asked, found, strict=True)]), 4
        ),
    }


def unlikeness(pipe, args, settings) -> dict:
    clip, number = ClipModel.from_pretrained("mini"), max(1, args.count // 10)

    def distance(images: list[Image.Image]) -> float:
        vectors = clip.embed_images(images).view(-1, EACH, clip.dim)
        between = [1 - (vectors[:, a] * vectors[:, b]).sum(-1) for a, b in combinations(range(EACH), 2)]
        return round(float(torch.stack(between).mean()), 4)

    scenes, pictures = renders(1, number)
    captions = [scene.caption for scene in scenes for _ in range(EACH)]
    pictures = [picture for picture in pictures for _ in range(EACH)]
    varied = drawn(pipe, pictures, args.batch, **args.strengths, **settings)
    results = {"unlikeness of variations": distance(varied)}
    scale = settings.get("guidance_scale") or pipe.config["guidance_scale"]
    for name, kind in (("unCLIP", UnCLIPPipeline), ("GLIDE", GlidePipeline)):
        text = kind.from_pretrained(args.model if kind is UnCLIPPipeline else args.glide)
        text.set_progress_bar_config(disable=True)
        images = drawn(text, captions, args.batch, **{**settings, "guidance_scale": scale})
        results[f"unlikeness of {name}'s pictures"] = distance(images)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="the name or folder of a model with an unCLIP")
    parser.add_argument("--glide", default="mini", help="the model whose GLIDE is compared with")
    parser.add_argument("--count", type=int, default=200, help="renders of each kind; half as many edits")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--steps", type=int, help="the decoder's steps (default: the model's)")
    parser.add_argument("--guidance", type=float, help="the decoder's guidance scale (default: the model's)")
    parser.add_argument("--strength", type=float, help="of variations and edits (default: their own)")
    parser.add_argument("--batch", type=int, default=40, help="pictures per call")
    parser.add_argument("--sheet", type=Path, help="write sheets of before and after beside this file")
    args = parser.parse_args()
    if args.sheet:
        check_output(args.sheet)
    pipe = UnCLIPVariationPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
    settings = {name: value for name, value in given.items() if value is not None}
    args.strengths = {} if args.strength is None else {"strength": args.strength}
    results = {"model": args.model, **settings, **args.strengths}
    for name, part in zip(PARTS, (variations, edits, unlikeness), strict=True):
        if args.only in (None, name):
            made = part(pipe, args, settings)
            print("\n".join(f"{key:32} {value}" for key, value in made.items()))
            results |= made
    print(json.dumps(results))


if __name__ == "__main__":
    main()
