"""Which weights of a CLIP train: all, the text tower against locked images, or low-rank adapters of both towers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..encoder import ClipEncoder
from ..transformer import Attention, ResidualAttentionBlock

TRAINED = ("all", "text", "lora")
# The matrix products of every block, in both towers.
_ADAPTED = r".*resblocks\.\d+\.(attn\.(in_proj|out_proj)|mlp\.(c_fc|c_proj))"
_ADAPTER = "default"


def choose_trained(encoder: ClipEncoder, trained: str, rank: int = 8) -> None:
    """Say, in place, which weights of `encoder` have gradients.

    "all"; "text": the image tower is locked (LiT, Zhai et al. 2021); "lora": adapters of `rank` on every matrix
    product of the transformers (Hu et al. 2021), and the temperature. A ResNet's image tower has none and stays as it
    is. `merged` makes a plain encoder of one with adapters.
    Raises ValueError for another word or rank, or if peft is not installed.
    """
    if trained not in TRAINED:
        raise ValueError(f"train must be one of {', '.join(TRAINED)}, not {trained!r}")
    encoder.requires_grad_(trained != "lora")
    if trained == "text":
        encoder.visual.requires_grad_(False)
    elif trained == "lora":
        _adapt(encoder, rank)
        encoder.logit_scale.requires_grad_(True)
        if encoder.logit_bias is not None:
            encoder.logit_bias.requires_grad_(True)


def _adapt(encoder: ClipEncoder, rank: int) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"lora_rank must be a whole number of at least 1, not {rank!r}")
    try:
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds
    except ImportError:
        raise ValueError(
            "training adapters needs peft; install it with: pip install 'maquette[lora]'"
        ) from None
    for module in list(encoder.modules()):
        if isinstance(module, ResidualAttentionBlock):
            module.attn = _AdaptedAttention(module.attn)
    adapters = LoraConfig(r=rank, lora_alpha=rank, target_modules=_ADAPTED)
    inject_adapter_in_model(adapters, encoder, _ADAPTER)


def merged(encoder: ClipEncoder) -> ClipEncoder:
    """`encoder`, in place, with its adapters added to the weights they adapt; a plain one comes back as it is."""
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "lora_A"):
                layer: Any = child
                layer.merge()
                setattr(module, name, layer.get_base_layer())
    for module in list(encoder.modules()):
        if isinstance(module, ResidualAttentionBlock) and isinstance(module.attn, _AdaptedAttention):
            module.attn = module.attn.plain()
    return encoder


class _AdaptedAttention(Attention):
    """Attention whose first product is a layer of its own: peft adapts layers, and not bare parameters."""

    def __init__(self, attention: Attention):
        nn.Module.__init__(self)
        self.heads, self.causal, self.out_proj = attention.heads, attention.causal, attention.out_proj
        outputs, inputs = attention.in_proj_weight.shape
        layer: Any = nn.Linear(inputs, outputs)
        layer.weight, layer.bias = attention.in_proj_weight, attention.in_proj_bias
        self.in_proj = layer

    def plain(self) -> Attention:
        """Attention as checkpoints have it, with the same parameters; the adapters must have been merged."""
        attention = Attention(self.in_proj.in_features, self.heads, self.causal)
        attention.in_proj_weight, attention.in_proj_bias = self.in_proj.weight, self.in_proj.bias
        attention.out_proj = self.out_proj
        return attention

    @property
    def in_proj_weight(self) -> Tensor:
        """The weights with what the adapter adds to them, [3 · width, width]."""
        layer = self.in_proj
        if not hasattr(layer, "lora_A"):
            return layer.weight
        learned = layer.lora_B[_ADAPTER].weight @ layer.lora_A[_ADAPTER].weight
        return layer.get_base_layer().weight + layer.scaling[_ADAPTER] * learned

    @property
    def in_proj_bias(self) -> Tensor:
        return self.in_proj.bias
