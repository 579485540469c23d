"""What all networks are made of: attention, transformer blocks, linear layers, group norm, embeddings.

`prepare` swaps the fast paths in.
"""

from .attention import Attention, CrossAttention, attend
from .embeddings import timestep_embedding, with_waves
from .group_norm import group_norm_silu
from .packed import prepare
from .transformer import MLP, Block, Transformer

__all__ = [
    "MLP",
    "Attention",
    "Block",
    "CrossAttention",
    "Transformer",
    "attend",
    "group_norm_silu",
    "prepare",
    "timestep_embedding",
    "with_waves",
]
