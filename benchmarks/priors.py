"""unCLIP's priors side by side: how near to the true one the embedding is that they make of a caption, and how soon.

    python benchmarks/priors.py runs/mini-prior/model runs/mini-autoregressive-prior/model

Of Toybox's `val`: the mean cosine between made and true embeddings, and between the text's own vector and the true one;
"centred": the same after the true ones' mean is taken off, which all pictures share. Best of two: of two made, the one
nearer to the text, as in the paper. Prints a line each, the last one in JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from maquette.clip import ClipEncoder, ClipModel, ClipTokenizer
from maquette.diffusion import make_scheduler, normal_draws, sample, seeded_generators
from maquette.layers import prepare
from maquette.toybox import make_scene, render
from maquette.unclip import AutoregressivePrior, DiffusionPrior, prior_denoiser, read_texts
from maquette.weights.load_saved import load_saved
from maquette.weights.model_folder import load_part, part_folder
from PIL import Image
from tqdm import tqdm

BATCH = 64


def loaded(model: str):
    """(prior, CLIP) of a model folder, float32."""
    folder = part_folder(Path(model), "prior")
    config = json.loads((folder / "config.json").read_text())
    kinds = {kind.__name__: kind for kind in (DiffusionPrior, AutoregressivePrior)}
    prior = load_saved(kinds[config["_class_name"]], folder, torch.float32)
    encoder = load_saved(ClipEncoder, part_folder(Path(model), "clip"), torch.float32)
    tokenizer = load_part(ClipTokenizer, part_folder(Path(model), "tokenizer"), None)
    return prepare(prior), ClipModel(encoder, tokenizer)


def made(prior, text, wordless, seed: int, steps: int, scale: float) -> torch.Tensor:
    """An embedding of each text."""
    generators = seeded_generators(seed, len(text.vector))
    if isinstance(prior, AutoregressivePrior):
        return prior.sample(
            **text.arguments(), generators=generators, guidance_scale=scale, wordless=wordless.arguments()
        )
    scheduler = make_scheduler("ddpm", "squaredcos_cap_v2", steps)
    draw = normal_draws(generators, (prior.config["clip_dim"],))
    denoise = prior_denoiser(prior, text, wordless, scale)
    return prior.denormalise(sample(denoise, scheduler, draw(), draw))


@torch.no_grad()
def measured(model: str, count: int, steps: int, scale: float) -> dict[str, float]:
    prior, clip = loaded(model)
    chosen = [make_scene("val", number) for number in range(count)]
    pixels = [clip.preprocess(Image.fromarray(render(scene))) for scene in tqdm(chosen, leave=False)]
    true = clip.encoder.encode_image(torch.stack(pixels), with_grid=False).vector
    captions, ctx = [scene.caption for scene in chosen], prior.config["text_ctx"]
    text = read_texts(clip.encoder, clip.tokenizer, captions, ctx)
    wordless = read_texts(clip.encoder, clip.tokenizer, [""] * count, ctx)
    start, found = time.perf_counter(), []
    for seed in (0, 10_000):
        for first in range(0, count, BATCH):
            some = slice(first, first + BATCH)
            found.append(made(prior, text.rows(some), wordless.rows(some), seed + first, steps, scale))
    seconds = time.perf_counter() - start
    first, second = torch.cat(found).chunk(2)
    nearer = F.cosine_similarity(first, text.vector) >= F.cosine_similarity(second, text.vector)
    best = torch.where(nearer[:, None], first, second)
    mean = true.mean(0)
    return {
        "text": F.cosine_similarity(text.vector, true).mean().item(),
        "sampled": F.cosine_similarity(first, true).mean().item(),
        "best of two": F.cosine_similarity(best, true).mean().item(),
        "text, centred": F.cosine_similarity(text.vector - text.vector.mean(0), true - mean).mean().item(),
        "sampled, centred": F.cosine_similarity(first - mean, true - mean).mean().item(),
        "ms each": 1000 * seconds / (2 * count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="folders of models with a prior")
    parser.add_argument("--count", type=int, default=512, help="captions")
    parser.add_argument("--steps", type=int, default=25, help="of a diffusion prior")
    parser.add_argument("--scale", type=float, default=1.0, help="of the guidance")
    arguments = parser.parse_args()
    results = {}
    for model in arguments.models:
        results[model] = measured(model, arguments.count, arguments.steps, arguments.scale)
        print(model, ", ".join(f"{name} {value:.4f}" for name, value in results[model].items()))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
