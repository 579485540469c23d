"""Seconds per guided step of the published GLIDE networks, float32 and bfloat16, beside the original code.

    python benchmarks/glide_step.py [--repeats 3]

Base: 64 px, both halves of one guided picture (batch 2). Upsampler: 64 -> 256 px, one picture. Weights are made by
formula, so nothing is downloaded. The original runs beside ours, in float32, where `glide_text2im` can be imported
(a clone of openai/glide-text2im on PYTHONPATH). Last, how well mini's pictures in the two formats agree.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from maquette import pipeline
from maquette.diffusion import GlideUNet
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "goldens"))
from formula import formula_tensor

UPSAMPLER = {
    "image_size": 256,
    "num_res_blocks": 2,
    "channel_mult": (1, 1, 2, 2, 4, 4),
    "attention_resolutions": (8, 16, 32),
    "super_res": True,
}


def network(config):
    """A published network, float32, with weights by formula."""
    net = GlideUNet(**config).eval()
    for key, parameter in net.state_dict().items():
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
        offset = 1.0 if key.endswith("norm.weight") else 0.0
        parameter.copy_(formula_tensor(key, parameter.shape, offset, 0.5 / fan_in**0.5))
    return net


def inputs(net, n):
    draw = torch.Generator().manual_seed(0)
    side = net.config["image_size"]
    tokens = torch.randint(0, 50257, (n, 128), generator=draw)
    mask = torch.ones(n, 128, dtype=torch.bool)
    x = torch.randn(n, 3, side, side, generator=draw)
    low_res = {"low_res": torch.randn(n, 3, 64, 64, generator=draw)} if net.config["super_res"] else {}
    return x, torch.full((n,), 500), tokens, mask, low_res


@torch.inference_mode()
def seconds(step, repeats):
    """The fastest of `repeats` runs after one to warm up."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def ours(net, n, dtype, repeats):
    net = net.to(dtype)
    x, timesteps, tokens, mask, low_res = inputs(net, n)
    text = net.encode_text(tokens, mask)
    return seconds(lambda: net(x, timesteps, text=text, **low_res), repeats)


def original(net, n, repeats):
    """The original's seconds, or None where it is not installed. Its text is cached, as its own notebooks do."""
    try:
        from glide_text2im.model_creation import (
            create_model,
            model_and_diffusion_defaults,
            model_and_diffusion_defaults_upsampler,
        )
    except ImportError:
        return None
    options = (
        model_and_diffusion_defaults_upsampler()
        if net.config["super_res"]
        else model_and_diffusion_defaults()
    )
    for key in ("diffusion_steps", "noise_schedule", "timestep_respacing"):
        options.pop(key)
    image_size, channels, blocks = (options.pop(k) for k in ("image_size", "num_channels", "num_res_blocks"))
    model = create_model(
        image_size, channels, blocks, **{**options, "use_fp16": False, "cache_text_emb": True}
    ).eval()
    x, timesteps, tokens, mask, low_res = inputs(net, n)
    return seconds(lambda: model(x, timesteps, tokens=tokens, mask=mask, **low_res), repeats)


def agreement(
    prompts=("a red chair", "a blue car", "a green tree", "a white snowman", "a black house", "a pink ball"),
):
    """PSNR in dB of mini's bfloat16 pictures against its float32 ones of the same seeds, one for each prompt."""
    single, half = (
        pipeline("text-to-image", dtype=dtype)(prompts, seed=0, output_type="pt").images
        for dtype in (torch.float32, torch.bfloat16)
    )
    return -10 * torch.log10((single - half).square().flatten(1).mean(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    table = Table("network", "original float32", "float32", "bfloat16", "original / bfloat16")
    for name, config, n in (("base, 64 px, batch 2", {}, 2), ("upsampler, 256 px, batch 1", UPSAMPLER, 1)):
        net = network(config)
        reference = original(net, n, repeats)
        single, half = (ours(net, n, dtype, repeats) for dtype in (torch.float32, torch.bfloat16))
        beside = ("-", "-") if reference is None else (f"{reference:.2f} s", f"{reference / half:.1f}x")
        table.add_row(name, beside[0], f"{single:.2f} s", f"{half:.2f} s", beside[1])
    Console().print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", table)
    psnr = agreement()
    print(f"mini, bfloat16 against float32: PSNR {psnr.mean():.1f} dB, at worst {psnr.min():.1f} dB")


if __name__ == "__main__":
    main()
