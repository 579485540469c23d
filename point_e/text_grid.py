"""Texts in the place of pictures, for a network that is conditioned on a grid and was trained on both."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def text_grid(states: Tensor, lengths: Tensor, tokens: int) -> Tensor:
    """CLIP's states of texts [N, length, width] as a grid [N, width, tokens]: zeros from each text's end on.

    lengths: int64 [N], of how many tokens each text is; what is beyond `tokens` is cut off.
    """
    states = states[:, :tokens]
    within = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    states = F.pad(states * within[..., None], (0, 0, 0, tokens - states.shape[1]))
    return rearrange(states, "n tokens width -> n width tokens")
