"""Weight-space interpolation: between a model and its fine-tuned self lies one that is good at both."""

from __future__ import annotations

import copy

import torch

from .encoder import ClipEncoder


@torch.no_grad()
def interpolate(start: ClipEncoder, tuned: ClipEncoder, alpha: float) -> ClipEncoder:
    """A new encoder with the weights (1 - alpha) · start + alpha · tuned, computed in float32.

    alpha 0 gives the start's weights bit for bit, 1 the tuned ones'. A bias of logits that only one of them has is
    taken as it is. Raises ValueError for an alpha outside of 0 to 1 or for encoders of different layouts.
    Source: WiSE-FT (Wortsman et al. 2022), section 3.
    """
    check_share(alpha)
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


def check_share(alpha: object) -> None:
    """Raise ValueError unless alpha is a number from 0 to 1."""
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= 1:
        raise ValueError(f"interpolate must be a number from 0 (the start) to 1 (the trained), not {alpha!r}")
