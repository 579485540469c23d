"""The weights of diffusers' unCLIP networks under the names that the original gave them, for `from_original`.

The names are data; what is computed is only that the original keeps queries, keys and values in one product, head
after head. What has no name here keeps its own, so that loading names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from einops import rearrange
from torch import Tensor

TIME = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
PRIOR = {
    **TIME,
    "encoder_hidden_states_proj": "text_enc_proj",
    "embedding_proj": "text_emb_proj",
    "proj_in": "clip_img_proj",
    "prd_embedding": "prd_emb",
    "norm_out": "final_ln",
    "proj_to_clip_embeddings": "out_proj",
}
BLOCK = {
    "attn1.to_out.0": "attn.c_proj",
    "ff.net.0.proj": "mlp.c_fc",
    "ff.net.2": "mlp.c_proj",
    "norm1": "ln_1",
    "norm3": "ln_2",
}
TEXT_PROJ = {
    "learned_classifier_free_guidance_embeddings": "cf_param",
    "clip_image_embeddings_project_to_time_embeddings": "clip_emb",
    "clip_extra_context_tokens_proj": "clip_tok_proj",
    "embedding_proj": "text_feat_proj",
    "encoder_hidden_states_proj": "text_seq_proj.0",
    "text_encoder_hidden_states_norm": "text_seq_proj.1",
}
UNET = {**TIME, "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ATTENTION = {"group_norm": "norm", "to_out.0": "proj_out"}
# Products that the original keeps as one.
SELF, CONTEXT = ("to_q", "to_k", "to_v"), ("add_k_proj", "add_v_proj")


def prior_weights(weights: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Of a PriorTransformer, with its statistics as `clip_mean` and `clip_std`."""
    blocks, others = {}, {}
    for key, value in weights.items():
        place = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", key)
        if place is None:
            others[_renamed(key, PRIOR)] = value.flatten() if key in ("clip_mean", "clip_std") else value
        else:
            blocks.setdefault(f"transformer.resblocks.{place[1]}", {})[place[2]] = value
    for name, block in blocks.items():
        whole = _fused(block, "attn1.", SELF, "attn.c_qkv", heads)
        others |= {f"{name}.{_renamed(key, BLOCK)}": value for key, value in whole.items()}
    return others


def decoder_weights(
    unet: Mapping[str, Tensor], text_proj: Mapping[str, Tensor], head_channels: int
) -> dict[str, Tensor]:
    """Of a UNet2DConditionModel and the UnCLIPTextProjModel before it."""
    return unet_weights(unet, head_channels) | {
        _renamed(key, TEXT_PROJ): value for key, value in text_proj.items()
    }


def upsampler_weights(first: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of Karlo's two UNet2DModels."""
    halves = {"model_first_steps": first, "model_last_step": last}
    return {
        f"{name}.{key}": value for name, half in halves.items() for key, value in unet_weights(half).items()
    }


def unet_weights(weights: Mapping[str, Tensor], head_channels: int = 64) -> dict[str, Tensor]:
    """Of one of diffusers' U-Nets of residual blocks with, perhaps, attention blocks of added keys and values."""
    places = dict(_places(weights))
    blocks: dict[str, dict[str, Tensor]] = {}
    renamed = {}
    for key, value in weights.items():
        module = next((name for name in places if key.startswith(f"{name}.")), None)
        if module is None:
            renamed[_renamed(key, UNET)] = value
        else:
            blocks.setdefault(module, {})[key.removeprefix(f"{module}.")] = value
    for module, block in blocks.items():
        names = RESNET
        if ".attentions." in module:
            names, heads = ATTENTION, len(block["to_q.weight"]) // head_channels
            block = _fused(_fused(block, "", SELF, "qkv", heads), "", CONTEXT, "encoder_kv", heads)
        renamed |= {f"{places[module]}.{_renamed(key, names)}": value for key, value in block.items()}
    return renamed


def _places(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Each module of diffusers' U-Net, and where it stands in the original's."""

    def there(module: str) -> bool:
        return any(key.startswith(f"{module}.") for key in weights)

    def count(modules: str) -> int:
        return len(
            {key.split(".")[modules.count(".") + 1] for key in weights if key.startswith(f"{modules}.")}
        )

    place = 1
    for level in range(count("down_blocks")):
        block = f"down_blocks.{level}"
        for i in range(count(f"{block}.resnets")):
            yield f"{block}.resnets.{i}", f"input_blocks.{place}.0"
            yield f"{block}.attentions.{i}", f"input_blocks.{place}.1"
            place += 1
        if there(f"{block}.downsamplers.0"):
            yield f"{block}.downsamplers.0", f"input_blocks.{place}.0"
            place += 1
    attentions = int(there("mid_block.attentions.0"))
    yield "mid_block.resnets.0", "middle_block.0"
    yield "mid_block.attentions.0", "middle_block.1"
    yield "mid_block.resnets.1", f"middle_block.{1 + attentions}"
    place = 0
    for level in range(count("up_blocks")):
        block = f"up_blocks.{level}"
        last = count(f"{block}.resnets") - 1
        for i in range(last + 1):
            yield f"{block}.resnets.{i}", f"output_blocks.{place}.0"
            yield f"{block}.attentions.{i}", f"output_blocks.{place}.1"
            if i == last:
                after = 1 + there(f"{block}.attentions.{i}")
                yield f"{block}.upsamplers.0", f"output_blocks.{place}.{after}"
            place += 1


def _renamed(key: str, names: Mapping[str, str]) -> str:
    """The key with the module that it begins with called as the original calls it."""
    for theirs, ours in names.items():
        if key == theirs or key.startswith(f"{theirs}."):
            return ours + key.removeprefix(theirs)
    return key


def _fused(
    block: Mapping[str, Tensor], prefix: str, parts: tuple[str, ...], name: str, heads: int
) -> dict[str, Tensor]:
    """A block's weights with some of its products as one, head after head."""
    fused = dict(block)
    for kind in ("weight", "bias"):
        keys = [f"{prefix}{part}.{kind}" for part in parts]
        if all(key in block for key in keys):
            pieces = torch.stack([fused.pop(key) for key in keys])
            fused[f"{name}.{kind}"] = rearrange(
                pieces, "parts (heads c) ... -> (heads parts c) ...", heads=heads
            )
    return fused
