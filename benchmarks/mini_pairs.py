"""How often mini draws two things as asked: captions of Toybox's two-thing scenes, judged beside their renders.

    python benchmarks/mini_pairs.py --model mini --count 500 --sheet pairs.png
    python benchmarks/mini_pairs.py --split novel

Prints how many drawings show both (thing, colour) pairs, in how many of those the relation holds, the
same of renders of the same scenes, which is the most that the judge would find, how far the texture is from the
renders', and one line of JSON.
"""

import json
import time
from itertools import count, islice

from maquette.pipelines.picture_files import check_output
from maquette.toybox import Scene, make_scene, render
from maquette.toybox.pair_judge import PairJudge
from maquette.toybox.sheet import contact_sheet
from mini_glide import drawing_arguments, drawing_pipeline, drawing_settings, drawn, texture
from PIL import Image

ON_SHEET = 24


def pair_scenes(split: str, number: int) -> list[Scene]:
    """The first scenes of two things of a split."""
    return list(islice((scene for i in count() if (scene := make_scene(split, i)).relation), number))


def main() -> None:
    parser = drawing_arguments(__doc__, ON_SHEET)
    parser.add_argument("--count", type=int, default=500, help="captions")
    parser.add_argument("--split", choices=("val", "novel"), default="val", help="which scenes' captions")
    args = parser.parse_args()
    if args.count < 1:
        parser.error("--count must be at least 1")
    if args.sheet:
        check_output(args.sheet)

    scenes = pair_scenes(args.split, args.count)
    captions = [scene.caption for scene in scenes]
    pipe = drawing_pipeline(args)
    settings = drawing_settings(pipe, args)
    began = time.perf_counter()
    drawings = drawn(pipe, captions, settings, args)
    seconds = (time.perf_counter() - began) / len(drawings)
    renders = [Image.fromarray(render(scene, drawings[0].width)) for scene in scenes]

    judge = PairJudge.load()
    results = {"model": args.model, "via": args.via, "split": args.split, "captions": len(scenes), **settings}
    print(f"{'':10} {'both pairs':>10} {'relation':>10}")
    for name, images in (("drawings", drawings), ("renders", renders)):
        pairs, relations = judge.right(images, scenes)
        shares = {
            "pairs": round(float(pairs.mean()), 4),
            "relation": round(float(relations.sum() / max(1, pairs.sum())), 4),
        }
        print(f"{name:10} {shares['pairs']:10.1%} {shares['relation']:10.1%}")
        results[name] = shares
    results |= texture(drawings, scenes) | {"seconds_per_picture": round(seconds, 3)}
    print(json.dumps(results))

    if args.sheet:
        shown = [image for both in zip(drawings, renders, strict=True) for image in both][: 2 * ON_SHEET]
        labels = [text for caption in captions for text in (caption, "render")][: 2 * ON_SHEET]
        contact_sheet(shown, columns=8, labels=labels, scale=2 if shown[0].width <= 64 else 1).save(
            args.sheet
        )
        print(f"wrote {args.sheet}")


if __name__ == "__main__":
    main()
