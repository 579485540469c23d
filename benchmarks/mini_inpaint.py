"""How often mini paints what it is asked for in place of a scene's one thing: judged by Toybox's classifier.

    python benchmarks/mini_inpaint.py --count 100 --size 64 --sheet sheet.png

The box around the thing is painted anew with a thing and a colour that training has shown. Prints one line of JSON and
ends with an error if a pixel outside a box has changed.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import maquette
import numpy as np
from maquette.pipelines.picture_files import check_output, save_pictures
from maquette.toybox import COLOURS, THINGS, Scene, is_held_out, make_scene, render
from maquette.toybox.judge import Judge
from maquette.toybox.shape import SEGMENTS
from maquette.toybox.sheet import contact_sheet
from maquette.toybox.view import draw_view
from PIL import Image
from tqdm import tqdm

ON_SHEET = 16


def single_scenes() -> Iterator[Scene]:
    return (scene for i in count() if len((scene := make_scene("val", i)).objects) == 1)


def box_around(scene: Scene, size: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the scene's things in its picture, and a sixteenth of its side around them."""
    body = scene.body(SEGMENTS)
    view = draw_view(scene.generator("view"), body, scene.relation)
    seen = view.axes @ (body.vertices - view.eye).T
    places = size / 2 * (1 + np.stack([seen[0], -seen[1]]) / (seen[2] * view.slope))
    low = np.clip(np.floor(places.min(1) - size / 16), 0, size).astype(int).tolist()
    high = np.clip(np.ceil(places.max(1) + size / 16), 0, size).astype(int).tolist()
    return low[0], low[1], high[0] - low[0], high[1] - low[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--count", type=int, default=100, help="scenes")
    parser.add_argument("--size", type=int, default=64, help="pixels of a scene's side")
    parser.add_argument(
        "--sheet", type=Path, help=f"write the first {ON_SHEET} before, masked and after to it"
    )
    args = parser.parse_args()
    if args.sheet:
        check_output(args.sheet)
    pipe = maquette.pipeline("inpainting", args.model)
    pipe.set_progress_bar_config(disable=True)
    judge, chance = Judge.load(), np.random.default_rng(0)
    pairs = [(thing, colour) for thing in THINGS for colour in COLOURS if not is_held_out(thing, colour)]
    right, pictures, labels = [], [], []
    for scene in tqdm(islice(single_scenes(), args.count), total=args.count):
        box, photo = box_around(scene, args.size), Image.fromarray(render(scene, args.size))
        thing, colour = pairs[chance.integers(len(pairs))]
        words = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}"
        painted = pipe(words, photo, box=box, seed=scene.index).images[0]
        masked, known = photo.copy(), Image.new("1", photo.size, 1)
        for picture, value in ((masked, "magenta"), (known, 0)):
            picture.paste(value, (box[0], box[1], box[0] + box[2], box[1] + box[3]))
        changed = (np.asarray(painted) != np.asarray(photo)).any(2) & np.asarray(known)
        assert not changed.any(), f"scene {scene.index}: {changed.sum()} known pixels changed"
        found = judge.name([painted])[0]
        right.append((found[0] == thing, found[1] == colour))
        pictures += [photo, masked, painted]
        labels += [scene.caption, "", f"{words} (judge: {found[1]} {found[0]})"]
    things, colours = np.mean(right, axis=0)
    both = np.mean(np.all(right, axis=1))
    print(json.dumps({"scenes": args.count, "both": both, "thing": things, "colour": colours}))
    if args.sheet:
        shown, scale = slice(3 * ON_SHEET), max(1, 128 // args.size)
        sheet = contact_sheet(pictures[shown], columns=12, labels=labels[shown], scale=scale)
        save_pictures([(args.sheet, sheet, {})])


if __name__ == "__main__":
    main()
