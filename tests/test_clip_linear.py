"""The linear layers of CLIP's transformers: with packed weights, in place, and with factors, they compute the same."""

import pytest
import torch
import torch.nn.functional as F
from maquette.clip import linear as linear_file
from maquette.clip.linear import linear, packing_works
from torch import nn

CASES = [{}, {"silu": True}, {"residual": True}, {"silu": True, "residual": True}]
FACTORS = [(1.0, 1.0), (1.0, 1.702), (1 / 1.702, 1.0)]


def expected(x, weight, bias, inside, outside, silu=False, residual=None):
    y = outside * (inside * x @ weight.T + bias)
    y = F.silu(y) if silu else y
    return y if residual is None else y + residual


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("inside", "outside"), FACTORS)
@pytest.mark.parametrize("way", ["training", "inference", "bfloat16", "packed"])
def test_every_way_computes_the_same(way, inside, outside, case, monkeypatch):
    if way == "packed":
        if not packing_works(torch.float32):
            pytest.skip("this torch packs no weights")
        monkeypatch.setattr(linear_file, "_packs", lambda x, weight: True)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if way == "bfloat16" else torch.float32
    x, weight, bias = torch.randn(2, 5, 24), nn.Parameter(torch.randn(40, 24)), nn.Parameter(torch.randn(40))
    case = {**case, "residual": torch.randn(2, 5, 40)} if "residual" in case else case
    with torch.set_grad_enabled(way == "training"):
        ours = linear(
            x.to(dtype),
            weight.to(dtype),
            bias.to(dtype),
            inside=inside,
            outside=outside,
            **{name: v.to(dtype) if isinstance(v, torch.Tensor) else v for name, v in case.items()},
        )
        tolerance = 0.1 if way == "bfloat16" else 1e-4
        theirs = expected(x, weight, bias, inside, outside, **case)
    torch.testing.assert_close(ours.float(), theirs, rtol=tolerance / 5, atol=tolerance)


@pytest.mark.skipif(not packing_works(torch.float32), reason="this torch packs no weights")
def test_a_packed_weight_follows_the_weight(monkeypatch):
    monkeypatch.setattr(linear_file, "_packs", lambda x, weight: True)
    x, weight, bias = torch.randn(3, 8), nn.Parameter(torch.randn(4, 8), requires_grad=False), torch.zeros(4)
    with torch.no_grad():
        before = linear(x, weight, bias)
        weight.mul_(2)
        torch.testing.assert_close(linear(x, weight, bias), 2 * before)
        bias.add_(1)
        torch.testing.assert_close(linear(x, weight, bias), 2 * before + 1)


def test_gradients_pass_through_a_frozen_layer(monkeypatch):
    monkeypatch.setattr(linear_file, "_packs", lambda x, weight: True)
    weight, bias = (nn.Parameter(torch.randn(*shape), requires_grad=False) for shape in ((4, 8), (4,)))
    x = torch.randn(3, 8, requires_grad=True)
    linear(x, weight, bias, outside=1.702, silu=True).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
