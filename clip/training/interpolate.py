"""Weight-space interpolation: between a model and its fine-tuned self lies one that is good at both."""

from __future__ import annotations

import copy

import torch

from ...training.layout import plain
from ..encoder import ClipEncoder

# Settings that leave the shapes of the weights alone but not their meaning: both models must have the same.
COMPUTED = (
    "activation",
    "vision_head_width",
    "transformer_heads",
    "image_mean",
    "image_std",
    "interpolation",
    "resize_mode",
)


@torch.no_grad()
def interpolate(start: ClipEncoder, tuned: ClipEncoder, alpha: float) -> ClipEncoder:
    """A new encoder with the weights (1 - alpha) · start + alpha · tuned, computed in float32.

    alpha 0 gives the start's weights bit for bit, 1 the tuned ones'. The layout is that of `tuned`: a bias of logits
    that only it has is taken as it is, and one that only the start has is dropped. Raises ValueError for an alpha
    outside of 0 to 1, for encoders of different layouts, and for those that compute or see pictures differently.
    Source: WiSE-FT (Wortsman et al. 2022), section 3.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be a number from 0 (the start) to 1 (the trained), not {alpha!r}")
    for entry in COMPUTED:
        ours, theirs = plain(start.config[entry]), plain(tuned.config[entry])
        if ours != theirs:
            raise ValueError(
                f"only models of one kind can be mixed; {entry} is {ours} in one and {theirs} in the other"
            )
    mixed = copy.deepcopy(tuned)
    before, after = start.state_dict(), mixed.state_dict()
    for name in sorted((before.keys() ^ after.keys()) - {"logit_bias"}):
        raise ValueError(f"only models of one layout can be mixed; {name} is in one of them alone")
    for name, weight in after.items():
        if name not in before:
            continue
        if before[name].shape != weight.shape:
            shapes = f"{tuple(before[name].shape)} and {tuple(weight.shape)}"
            raise ValueError(f"only models of one layout can be mixed; {name} has the shapes {shapes}")
        if weight.is_floating_point():
            old, new = before[name].to(weight.device, torch.float32), weight.float()
            weight.copy_(torch.lerp(old, new, float(alpha)))
    return mixed
