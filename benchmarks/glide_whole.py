"""Seconds and memory of a whole 256 px picture with GLIDE's published sizes, in bfloat16, by each preset.

    python benchmarks/glide_whole.py runs/glide-sized [--presets original default] [--repeats 1]

Networks of the published sizes with weights by formula are written to the folder if it is not there: 1.6 GB, nothing is
downloaded. Then a process for each preset loads it as any model and draws a picture at a time, after one to warm up. It
prints the fastest time of drawing, and its peak of memory, loading and torch included. What is drawn is noise, and
takes as long as a picture would. Where `glide_text2im` can be imported (a clone of openai/glide-text2im on PYTHONPATH),
the original code in float32 comes first: a step of each of its networks is timed, and multiplied by how many it takes.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

import torch
from glide_step import UPSAMPLER, network, original
from maquette.clip.training.tokenizers import TOYBOX_TOKENIZER
from maquette.diffusion import GlideTokenizer
from maquette.pipelines import GlidePipeline
from maquette.pipelines.convert import SETTINGS
from maquette.pipelines.presets import PRESETS

PROMPT = "a corgi in a field"
ORIGINAL_STEPS = 100, 27  # guided ones of the base, and of the upsampler


@torch.inference_mode()
def write_model(folder: Path) -> None:
    """A model folder of the published sizes, in float16 as the published files are."""
    base, upsampler = (network(config).half() for config in ({}, UPSAMPLER))
    tokenizer = GlideTokenizer.from_file(TOYBOX_TOKENIZER)
    GlidePipeline(base, tokenizer, upsampler=upsampler, **SETTINGS).save_pretrained(folder)


def original_code() -> tuple[float, float] | None:
    """Seconds that a guided step of the base and one of the upsampler take the original, if it is installed."""
    base, upsampler = original(network({}), 2, 2), original(network(UPSAMPLER), 1, 2)
    return base and upsampler and (base, upsampler)


def measured(folder: Path, preset: str | None, repeats: int) -> tuple[str, float, float]:
    """How a picture is drawn, its seconds, and this process's peak of memory in GiB."""
    pipe = GlidePipeline.from_pretrained(folder, dtype=torch.bfloat16, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    stages: list[str] = []
    pipe(PROMPT, num_inference_steps=2, seed=0)
    times = []
    for seed in range(repeats):
        stages.clear()
        began = time.perf_counter()
        pipe(
            PROMPT,
            preset=preset,
            seed=seed,
            callback_on_step_end=lambda pipe, step, timestep, given: stages.append(given["stage"]),
        )
        times.append(time.perf_counter() - began)
    unit = 1 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    steps = ", ".join(f"{stages.count(stage)} steps of the {stage}" for stage in ("base", "upsampler"))
    return steps, min(times), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the model; made if it is not there")
    known = list(PRESETS["glide"])
    parser.add_argument("--presets", nargs="+", choices=known, default=known)
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    if not args.folder.exists():
        writer = fresh.Process(target=write_model, args=(args.folder,))
        writer.start()
        writer.join()
    print(f"{torch.get_num_threads()} threads of {os.cpu_count()}, torch {torch.__version__}", flush=True)
    with fresh.Pool(1) as pool:
        each = pool.apply(original_code)
    peer = each and sum(number * taken for number, taken in zip(ORIGINAL_STEPS, each, strict=True))
    if each:
        said = f"{peer:.1f} s, from steps of {each[0]:.2f} and {each[1]:.2f} s"
        print(f"original code, float32: {said}", flush=True)
    for name in args.presets:
        with fresh.Pool(1) as pool:
            preset = None if name == "default" else name
            steps, seconds, peak = pool.apply(measured, (args.folder, preset, args.repeats))
        ratio = f", {peer / seconds:.1f}x the original" if peer else ""
        print(f"{name}: {seconds:.1f} s{ratio}, {steps}; peak memory {peak:.2f} GiB", flush=True)


if __name__ == "__main__":
    main()
