"""How well mini's CLIP tells Toybox's scenes: which of 220 captions a thing has, and which of 1,000 a pair has.

    python benchmarks/mini_clip.py --model mini

One thing: of all captions "a {colour} {thing}" the nearest must be right, for renders of `val` (pairs that training
showed) and of `novel` (pairs that it never showed). Two things: recall@1 among the scenes' own captions, both ways.
Prints tables and one line of JSON.
"""

import argparse
import itertools
import json
import time

import torch
from maquette.clip import ClipModel
from maquette.clip.evaluation.retrieval import retrieval_recall
from maquette.toybox import COLOURS, THINGS, make_scene, render
from PIL import Image
from tqdm import tqdm

PAIRS = [(thing, colour) for thing in THINGS for colour in COLOURS]


def caption(thing: str, colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}"


def scenes(split: str, objects: int, count: int) -> list:
    """The first `count` scenes of a split with so many things."""
    found = (scene for i in itertools.count() if len((scene := make_scene(split, i)).objects) == objects)
    return list(itertools.islice(found, count))


def vectors(model: ClipModel, chosen: list) -> torch.Tensor:
    pictures = (Image.fromarray(render(scene)) for scene in tqdm(chosen, desc="rendering", leave=False))
    return model.embed_images(pictures, batch_size=64)


def one_thing(model: ClipModel, split: str, count: int) -> dict[str, float]:
    chosen = scenes(split, 1, count)
    words = model.embed_texts([caption(*pair) for pair in PAIRS])
    nearest = [PAIRS[i] for i in (vectors(model, chosen) @ words.T).argmax(1).tolist()]
    right = [(scene.objects[0].thing, scene.objects[0].colour) for scene in chosen]
    both = list(zip(nearest, right, strict=True))
    return {
        "thing": sum(a[0] == b[0] for a, b in both) / count,
        "colour": sum(a[1] == b[1] for a, b in both) / count,
        "top-1": sum(a == b for a, b in both) / count,
    }


def two_things(model: ClipModel, split: str, count: int) -> dict[str, float]:
    chosen = scenes(split, 2, count)
    texts = model.embed_texts([scene.caption for scene in chosen])
    recall = retrieval_recall(vectors(model, chosen), texts)
    return {f"{way} recall@{k}": share for way, shares in recall.items() for k, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--renders", type=int, default=2000, help="scenes of one thing from each split")
    parser.add_argument("--among", type=int, default=1000, help="scenes of two things from each split")
    args = parser.parse_args()
    model, began = ClipModel.from_pretrained(args.model), time.perf_counter()
    results: dict = {"model": args.model}
    for split, which in (("val", "train's pairs"), ("novel", "novel pairs")):
        results[split] = {**one_thing(model, split, args.renders), **two_things(model, split, args.among)}
        print(f"{split} ({which}): {args.renders} renders, 220 captions; {args.among} scenes of two things")
        for name, share in results[split].items():
            print(f"  {name:26} {share:7.1%}")
    print(f"{time.perf_counter() - began:.0f} s with rendering")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
