"""Muon over the matrices of layers, AdamW over the rest."""

import pytest
import torch
from maquette.training.optimizer import Muon, make_optimizers, state_tensors


def network(memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Embedding(4, 3), torch.nn.Linear(3, 5), torch.nn.Conv2d(5, 7, 3), torch.nn.GroupNorm(1, 7)
    )
    return layers.to(memory_format=memory_format)


def stepped(net):
    optimizers = make_optimizers(net, "muon", 0.0)
    for number, parameter in enumerate(net.parameters()):
        draw = torch.Generator().manual_seed(number)
        parameter.grad = torch.randn(parameter.shape, generator=draw)
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 1e-2
        optimizer.step()
    return optimizers


def test_muon_moves_a_matrix_along_all_its_directions_alike():
    net, before = network(), network()
    stepped(net)
    moved = (net[1].weight - before[1].weight).detach() / (1e-2 * 0.2 * 5**0.5)
    assert torch.linalg.svdvals(moved) == pytest.approx([1.0] * 3, abs=0.5)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 1e-6), (torch.float32, 2e-4)])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_muon_moves_matrices_as_torchs_own(dtype, error, shape):
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizers = (
        Muon([ours], 0.1, dtype),
        torch.optim.Muon([theirs], weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for number in range(3):
        ours.grad = theirs.grad = torch.randn(shape, generator=torch.Generator().manual_seed(number))
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.01
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=error, rtol=0)
    assert (ours - 1).abs().max() > 20 * error


def test_a_convolution_moves_alike_in_both_memory_formats():
    plain, channels_last = network(), network(torch.channels_last)
    stepped(plain)
    stepped(channels_last)
    torch.testing.assert_close(plain[2].weight, channels_last[2].weight, atol=1e-3, rtol=0)
    assert not torch.equal(plain[2].weight, network()[2].weight)


def test_every_parameter_has_one_optimizer_and_a_state_by_its_name():
    net = network()
    optimizers = make_optimizers(net, "muon", 0.01)
    tensors = state_tensors(optimizers, dict(net.named_parameters()))
    assert {name for name in tensors if name.startswith("momentum_buffer/")} == {
        "momentum_buffer/1.weight",
        "momentum_buffer/2.weight",
    }
    assert {name.split("/")[1] for name in tensors} == {name for name, _ in net.named_parameters()}
    (muon,) = (optimizer for optimizer in optimizers if isinstance(optimizer, Muon))
    tensors["momentum_buffer/1.weight"].fill_(1.0)
    assert muon.state[muon.param_groups[0]["params"][0]]["momentum_buffer"].eq(1).all()
