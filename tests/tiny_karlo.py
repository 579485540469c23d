"""A Karlo that knows nothing, of diffusers' own classes: what a folder of the Hub's holds, and what draws with it."""

import json
from pathlib import Path

import torch
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from maquette.clip import ClipTokenizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

DIM = 32
_TRANSFORMER = {
    "hidden_size": DIM,
    "projection_dim": DIM,
    "intermediate_size": 40,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
}
_UNET = {"layers_per_block": 1, "block_out_channels": (32, 64)}


def karlo_parts(folder: Path) -> dict:
    """All parts of both of diffusers' pipelines, seeded. folder: for the tokenizer's files."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = PriorTransformer(
            num_attention_heads=2, attention_head_dim=12, num_layers=2, embedding_dim=DIM
        )
        prior.clip_mean.data.normal_()
        prior.clip_std.data.uniform_(0.5, 1.5)
        prior.prd_embedding.data.normal_()
        prior.positional_embedding.data.normal_(std=0.3)
        text_proj = UnCLIPTextProjModel(clip_embeddings_dim=DIM, time_embed_dim=128, cross_attention_dim=48)
        text_proj.learned_classifier_free_guidance_embeddings.data.normal_()
        decoder = UNet2DConditionModel(
            **_UNET,
            sample_size=16,
            out_channels=6,
            in_channels=3,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            cross_attention_dim=48,
            attention_head_dim=16,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        super_res = [
            UNet2DModel(
                **_UNET,
                sample_size=32,
                in_channels=6,
                out_channels=3,
                down_block_types=("ResnetDownsampleBlock2D",) * 2,
                up_block_types=("ResnetUpsampleBlock2D",) * 2,
                add_attention=False,
            )
            for _ in range(2)
        ]
        text = CLIPTextConfig(**_TRANSFORMER, eos_token_id=49407)
        image = CLIPVisionConfig(**_TRANSFORMER, image_size=32, patch_size=8)
        parts = {
            "prior": prior,
            "text_proj": text_proj,
            "decoder": decoder,
            "super_res_first": super_res[0],
            "super_res_last": super_res[1],
            "text_encoder": CLIPTextModelWithProjection(text),
            "image_encoder": CLIPVisionModelWithProjection(image),
        }
    crop = {"height": 32, "width": 32}
    return {name: part.eval() for name, part in parts.items()} | {
        "tokenizer": _tokenizer(folder),
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=crop),
        # The original clips the prior's x0 at 10 deviations.
        "prior_scheduler": _scheduler("fixed_small_log", prediction_type="sample", clip_sample_range=10.0),
        "decoder_scheduler": _scheduler("learned_range"),
        "super_res_scheduler": _scheduler("fixed_small_log"),
    }


def _scheduler(variance_type: str, **more) -> UnCLIPScheduler:
    return UnCLIPScheduler(variance_type=variance_type, num_train_timesteps=1000, **more)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    ours = folder / "tokenizer.json"
    ClipTokenizer.openai().save(ours)
    model = json.loads(ours.read_text(encoding="utf-8"))["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split()) for merge in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=77)
