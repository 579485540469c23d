"""The original's module `clip.model`; its classes are in `towers.py`, and come through the package as in `clip.py`."""

from . import towers

AttentionPool2d, Bottleneck, CLIP = towers.AttentionPool2d, towers.Bottleneck, towers.CLIP
LayerNorm, ModifiedResNet, QuickGELU = towers.LayerNorm, towers.ModifiedResNet, towers.QuickGELU
ResidualAttentionBlock, Transformer = towers.ResidualAttentionBlock, towers.Transformer
VisionTransformer = towers.VisionTransformer
build_model, convert_weights = towers.build_model, towers.convert_weights
