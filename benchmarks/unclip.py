"""Seconds for one picture of Karlo's whole chain, beside diffusers' pipeline in float32 and at its best setting.

    python benchmarks/unclip.py [--repeats 1] [--steps 25 25 7] [--tiny]

Prior, decoder and upsampler of the published sizes; best setting: bfloat16, channels last; ours: default. diffusers'
networks have random weights and ours are the same, read from the folder that they are saved to (14 GB, temporary), so
nothing is downloaded. --tiny: networks of the tests' size, to see that it runs.
"""

import argparse
import inspect
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import PriorTransformer, UnCLIPPipeline, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from maquette import pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_karlo import karlo_parts

PROMPT = "a high-resolution photograph of a big red frog on a green leaf"


def full_size(parts):
    """The parts of diffusers' pipeline with networks of the published sizes."""
    channels = {"layers_per_block": 3, "block_out_channels": (320, 640, 960, 1280)}
    attention = "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"
    networks = {
        "prior": lambda: PriorTransformer(),
        "text_proj": lambda: UnCLIPTextProjModel(time_embed_dim=1280, cross_attention_dim=1536),
        "decoder": lambda: UNet2DConditionModel(
            **channels,
            sample_size=64,
            out_channels=6,
            in_channels=3,
            down_block_types=("ResnetDownsampleBlock2D", *(attention[0],) * 3),
            up_block_types=(*(attention[1],) * 3, "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            cross_attention_dim=1536,
            attention_head_dim=64,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        ),
        "text_encoder": lambda: CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=768, projection_dim=768, intermediate_size=3072, num_attention_heads=12
            )
        ),
    }
    for name in ("super_res_first", "super_res_last"):
        networks[name] = lambda: UNet2DModel(
            **channels,
            sample_size=256,
            in_channels=6,
            out_channels=3,
            down_block_types=("ResnetDownsampleBlock2D",) * 4,
            up_block_types=("ResnetUpsampleBlock2D",) * 4,
            add_attention=False,
        )
    made = {name: make().eval() for name, make in networks.items()}
    made["prior"].clip_std.data.fill_(1)
    return {**parts, **made}


def seconds(draw, steps, repeats):
    """The fastest of `repeats` runs of so many steps, after one of few to warm up."""
    draw(2, 2, 2)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        draw(*steps)
        times.append(time.perf_counter() - start)
    return min(times)


def theirs(folder, kinds, dtype, steps, repeats):
    # Part by part: of a folder that it saved itself, its from_pretrained does not find the class of text_proj.
    loaded = {}
    for name, kind in kinds.items():
        formats = {"torch_dtype": dtype} if issubclass(kind, torch.nn.Module) else {}
        loaded[name] = kind.from_pretrained(f"{folder}/{name}", **formats)
    pipe = UnCLIPPipeline(**loaded)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module) and dtype == torch.bfloat16:
            part.to(memory_format=torch.channels_last)
    # From noise in float32 the small picture is in float32 as well, for bicubic resizing knows no bfloat16.
    side = pipe.decoder.config.sample_size
    noise: Any = torch.randn(1, 3, side, side)

    def draw(prior, decoder, upsampler):
        pipe(
            PROMPT,
            prior_num_inference_steps=prior,
            decoder_num_inference_steps=decoder,
            super_res_num_inference_steps=upsampler,
            decoder_latents=noise,
            output_type="np",
        )

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return seconds(draw, steps, repeats)


def ours(folder, steps, repeats):
    pipe = pipeline("text-to-image", folder)
    pipe.set_progress_bar_config(disable=True)

    def draw(prior, decoder, upsampler):
        pipe.register_to_config(prior_candidates=1, prior_steps=prior, upsampler_steps=upsampler)
        pipe(PROMPT, num_inference_steps=decoder, seed=0, output_type="np")

    return seconds(draw, steps, repeats), pipe.dtype


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs=3, default=(25, 25, 7))
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = karlo_parts(Path(folder))
        parts = parts if asked.tiny else full_size(parts)
        parts = {name: parts[name] for name in inspect.signature(UnCLIPPipeline).parameters}
        UnCLIPPipeline(**parts).save_pretrained(f"{folder}/karlo")
        kinds = {name: type(part) for name, part in parts.items()}
        del parts
        karlo = f"{folder}/karlo"
        # Each line as soon as it is known: the whole takes half an hour.
        print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
        taken, own = ours(karlo, asked.steps, asked.repeats)
        print(f"maquette {own}: {taken:.2f} s", flush=True)
        peers = []
        for dtype in (torch.bfloat16, torch.float32):
            peers.append(theirs(karlo, kinds, dtype, asked.steps, asked.repeats))
            print(f"diffusers {dtype}: {peers[-1]:.2f} s", flush=True)
    print(f"maquette is {min(peers) / taken:.2f} times as fast as diffusers' best")


if __name__ == "__main__":
    main()
