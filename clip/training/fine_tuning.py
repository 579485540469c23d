"""Which weights of a CLIP train: all, the text tower against locked images, or low-rank adapters of both towers."""

from __future__ import annotations

from ...training.adapters import add_adapters
from ..encoder import ClipEncoder

# The matrix products of every block, in both towers.
_ADAPTED = r".*resblocks\.\d+\.(attn\.(c_qkv|c_proj)|mlp\.(c_fc|c_proj))"


def choose_trained(encoder: ClipEncoder, trained: str, rank: int = 8) -> None:
    """Say, in place, which weights of `encoder` have gradients.

    "all"; "text": the image tower is locked (LiT, Zhai et al. 2021); "lora": adapters of `rank` on every matrix
    product of the transformers, and the temperature. A ResNet's image tower has none and stays as it is.
    `merged` makes a plain encoder of one with adapters. Raises ValueError if "lora" needs peft to be installed.
    """
    encoder.requires_grad_(True)
    if trained == "text":
        encoder.visual.requires_grad_(False)
    elif trained == "lora":
        add_adapters(encoder, _ADAPTED, rank)
        encoder.logit_scale.requires_grad_(True)
        if encoder.logit_bias is not None:
            encoder.logit_bias.requires_grad_(True)
