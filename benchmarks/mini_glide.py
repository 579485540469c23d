"""How often mini draws what it was asked for: every (colour, thing) pair, judged by Toybox's classifier.

    python benchmarks/mini_glide.py --model mini --seeds 2 --sheet sheet.png

Prints a table, with the pairs that training never showed apart, and one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path

import maquette
from maquette.pipelines.picture_files import check_output
from maquette.toybox import COLOURS, THINGS, is_held_out
from maquette.toybox.judge import Judge
from maquette.toybox.sheet import contact_sheet
from tqdm import tqdm

PAIRS = [(thing, colour) for thing in THINGS for colour in COLOURS]
ON_SHEET = 40


def words(thing: str, colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {thing}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="a model's name or folder")
    parser.add_argument("--seeds", type=int, default=2, help="pictures per pair")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the pipeline's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the pipeline's)")
    parser.add_argument("--batch", type=int, default=44, help="pictures per call")
    parser.add_argument("--sheet", help=f"write a contact sheet of {ON_SHEET} pictures to this file")
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error("--seeds must be at least 1")
    if args.sheet:
        check_output(Path(args.sheet))
    return args


def main() -> None:
    args = arguments()
    pipe = maquette.pipeline("text-to-image", model=args.model)
    pipe.set_progress_bar_config(disable=True)
    pipe("a red chair", seed=0)
    began = time.perf_counter()
    pipe("a red chair", seed=0)
    print(f"one picture alone, default steps: {time.perf_counter() - began:.2f} s of sampling")
    settings = {
        "num_inference_steps": pipe.config["num_inference_steps"] if args.steps is None else args.steps,
        "guidance_scale": pipe.config["guidance_scale"] if args.guidance is None else args.guidance,
    }
    wanted = PAIRS * args.seeds
    images, began = [], time.perf_counter()
    for first in tqdm(range(0, len(wanted), args.batch), unit="batch"):
        prompts = [words(*pair) for pair in wanted[first : first + args.batch]]
        images += pipe(prompts, seed=first, **settings).images
    seconds = (time.perf_counter() - began) / len(images)

    found = Judge.load().name(images)
    results = {"model": args.model, **settings, "seconds_per_picture": round(seconds, 3)}
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
    print(json.dumps(results))

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
