"""The losses that train a CLIP: symmetric cross-entropy and the sigmoid loss, over the pairs of all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard


def contrastive_loss(
    images: Tensor, texts: Tensor, scale: Tensor | float, bias: Tensor | None = None
) -> Tensor:
    """Symmetric cross-entropy of finding each image's text and each text's image, a scalar in nats.

    images, texts: [N, D] of length 1, where row i of one belongs to row i of the other. scale: the inverse of the
    temperature. bias is added to all logits and changes nothing but that an encoder that has one trains as a whole.
    Source: CLIP (Radford et al. 2021), figure 3.
    """
    logits = pair_logits(images, texts, scale, bias)
    matching = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, matching) + F.cross_entropy(logits.T, matching)) / 2


def sigmoid_loss(images: Tensor, texts: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Every one of the N² pairs is a question of yes or no: the sum of their losses over N, a scalar in nats.

    images, texts: [N, D] of length 1, row by row matching. scale and bias make the logits of their products.
    Source: SigLIP (Zhai et al. 2023), algorithm 1.
    """
    logits = pair_logits(images, texts, scale, bias)
    answers = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(answers * logits).sum() / len(logits)


def pair_logits(images: Tensor, texts: Tensor, scale: Tensor | float, bias: Tensor | float | None) -> Tensor:
    """scale · images textsᵀ + bias in float32, [N, M]."""
    logits = scale * (images.float() @ texts.float().T)
    return logits if bias is None else logits + bias


def gathered(x: Tensor) -> Tensor:
    """The rows of all processes, [processes · N, D], in the order of their ranks; every process must bring N.

    For a loss that every process computes on the whole batch. Backward adds up the gradients of all these equal
    losses, so that the mean over processes, which the training takes, is the gradient of one of them.
    Without gradients x comes back as it is: what is only looked at need not be of equal length everywhere.
    """
    if not (dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()):
        return x
    mesh = init_device_mesh(x.device.type, (dist.get_world_size(),))
    return DTensor.from_local(x, mesh, [Shard(0)]).full_tensor(grad_placements=[Partial()])
