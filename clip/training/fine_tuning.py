"""Which weights of a CLIP train: all, the text tower against locked images, or low-rank adapters of both towers."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..encoder import ClipEncoder

# The matrix products of every block, in both towers.
_ADAPTED = r".*resblocks\.\d+\.(attn\.(c_qkv|c_proj)|mlp\.(c_fc|c_proj))"


def choose_trained(encoder: ClipEncoder, trained: str, rank: int = 8) -> None:
    """Say, in place, which weights of `encoder` have gradients.

    "all"; "text": the image tower is locked (LiT, Zhai et al. 2021); "lora": adapters of `rank` on every matrix
    product of the transformers (Hu et al. 2021), and the temperature. A ResNet's image tower has none and stays as it
    is. `merged` makes a plain encoder of one with adapters. Raises ValueError if "lora" needs peft to be installed.
    """
    encoder.requires_grad_(trained != "lora")
    if trained == "text":
        encoder.visual.requires_grad_(False)
    elif trained == "lora":
        if find_spec("peft") is None:
            raise ValueError("training adapters needs peft; install it with: pip install 'maquette[lora]'")
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds

        adapters = LoraConfig(r=rank, lora_alpha=rank, target_modules=_ADAPTED)
        inject_adapter_in_model(adapters, encoder)
        encoder.logit_scale.requires_grad_(True)
        if encoder.logit_bias is not None:
            encoder.logit_bias.requires_grad_(True)


def merged(encoder: ClipEncoder) -> ClipEncoder:
    """`encoder`, in place, with its adapters added to the weights they adapt; a plain one comes back as it is."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "lora_A"):
                layer: Any = child
                layer.merge()
                setattr(module, name, layer.get_base_layer())
    return encoder
