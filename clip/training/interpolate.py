"""Weight-space interpolation: between a model and its fine-tuned self lies one that is good at both."""

import copy

import torch

from ..encoder import ClipEncoder


@torch.no_grad()
def interpolate(start: ClipEncoder, tuned: ClipEncoder, alpha: float) -> ClipEncoder:
    """A new encoder with the weights (1 - alpha) · start + alpha · tuned, of what was trained from `start`.

    A bias of logits that only one of them has is as `tuned` has it. Source: WiSE-FT (Wortsman et al. 2022), section 3.
    """
    mixed, before = copy.deepcopy(tuned), start.state_dict()
    for name, weight in mixed.state_dict().items():
        if name in before and weight.is_floating_point():
            weight.copy_(torch.lerp(before[name].to(weight), weight, alpha))
    return mixed
