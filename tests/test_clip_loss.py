"""CLIP's losses: against open_clip's, run beside them, and shared by two processes against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from maquette.clip.training.loss import contrastive_loss, gathered, sigmoid_loss
from maquette.training.precision import InDtype
from open_clip.loss import ClipLoss, SigLipLoss
from tiny_models import tiny_clip
from torch.nn.parallel import DistributedDataParallel

LOSSES = {"contrastive": contrastive_loss, "sigmoid": sigmoid_loss}
OPEN_CLIPS = {"contrastive": ClipLoss(), "sigmoid": SigLipLoss()}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_equal_open_clips(name):
    draw = torch.Generator().manual_seed(0)
    raw = [torch.randn(n, 16, generator=draw) for n in (9, 9)]
    results = []
    for loss in (LOSSES[name], OPEN_CLIPS[name]):
        leaves = [t.clone().requires_grad_() for t in [*raw, torch.tensor(14.3), torch.tensor(-4.0)]]
        value = loss(F.normalize(leaves[0]), F.normalize(leaves[1]), leaves[2], leaves[3])
        results.append([value, *torch.autograd.grad(value, leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def gradients(rank, processes):
    """{parameter of a loss: gradient} of two losses on this process's share of one batch of 8 pairs.

    One process computes the batch at once; of two, each computes its share in chunks of 3.
    """
    draw = torch.Generator().manual_seed(1)
    mine = slice(rank * 8 // processes, (rank + 1) * 8 // processes)
    pixels, tokens = torch.randn(8, 3, 32, 32, generator=draw), torch.randint(300, (8, 24), generator=draw)
    found = {}
    for name, loss in LOSSES.items():
        encoder = tiny_clip().encoder.requires_grad_()
        encoder.logit_bias = torch.nn.Parameter(torch.tensor(-1.0))
        model = InDtype(encoder, torch.float32)
        model = DistributedDataParallel(model) if processes > 1 else model
        images, texts, *rest = model(pixels[mine], tokens[mine], chunk=0 if processes == 1 else 3)
        loss(gathered(images), gathered(texts), *rest).backward()
        found |= {f"{name} {key}": p.grad.tolist() for key, p in encoder.named_parameters()}
    return found


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    children = [subprocess.Popen([*command, str(rank)], env=environment) for rank in (0, 1)]
    assert [child.wait(300) for child in children] == [0, 0]
    one = gradients(0, 1)
    for rank in (0, 1):
        shared = json.loads((tmp_path / f"{rank}.json").read_text())
        assert shared.keys() == one.keys()
        for name, gradient in one.items():
            torch.testing.assert_close(
                torch.tensor(shared[name]), torch.tensor(gradient), rtol=1e-4, atol=1e-5
            )


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    (folder / f"{rank}.json").write_text(json.dumps(gradients(rank, 2)))
    dist.barrier()  # neither leaves while the other still speaks
    dist.destroy_process_group()
