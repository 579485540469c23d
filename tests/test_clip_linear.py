"""The linear layers of CLIP's transformers: with packed weights, in place, and with factors, they compute the same."""

import pytest
import torch
import torch.nn.functional as F
from maquette.layers import linear as linear_file
from maquette.layers.int16_product import Int16Linear, allow_int16
from maquette.layers.linear import linear
from maquette.layers.onednn_product import OneDNNLinear
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

CASES = [{}, {"silu": True}, {"residual": True}, {"silu": True, "residual": True}]
FACTORS = [(1.0, 1.0), (1.0, 1.702), (1 / 1.702, 1.0)]


PACKED = {"onednn": OneDNNLinear, "int16": Int16Linear}


def use(kind, monkeypatch):
    if not (OneDNNLinear.works(torch.float32) if kind is OneDNNLinear else Int16Linear.works()):
        pytest.skip(
            f"{kind.__name__}: this torch packs no weights, or int16_product.c was not compiled for this CPU"
        )
    monkeypatch.setattr(linear_file, "_kind", lambda x, weight: kind)


def expected(x, weight, bias, inside, outside, silu=False, residual=None):
    y = outside * (inside * x @ weight.T + bias)
    y = F.silu(y) if silu else y
    return y if residual is None else y + residual


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("inside", "outside"), FACTORS)
@pytest.mark.parametrize("way", ["training", "inference", "bfloat16", "onednn", "int16"])
def test_every_way_computes_the_same(way, inside, outside, case, monkeypatch):
    if way in PACKED:
        use(PACKED[way], monkeypatch)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if way == "bfloat16" else torch.float32
    x, weight, bias = torch.randn(2, 5, 24), nn.Parameter(torch.randn(48, 24)), nn.Parameter(torch.randn(48))
    case = {**case, "residual": torch.randn(2, 5, 48)} if "residual" in case else case
    with torch.set_grad_enabled(way == "training"):
        ours = linear(
            x.to(dtype),
            weight.to(dtype),
            bias.to(dtype),
            inside=inside,
            outside=outside,
            **{name: v.to(dtype) if isinstance(v, torch.Tensor) else v for name, v in case.items()},
        )
        tolerance = {"bfloat16": 0.1, "int16": 5e-3}.get(way, 1e-4)
        theirs = expected(x, weight, bias, inside, outside, **case)
    torch.testing.assert_close(ours.float(), theirs, rtol=tolerance / 5, atol=tolerance)


@pytest.mark.parametrize("kind", PACKED.values())
def test_a_packed_weight_follows_the_weight(kind, monkeypatch):
    use(kind, monkeypatch)
    x, weight, bias = (
        torch.randn(3, 8),
        nn.Parameter(torch.randn(16, 8), requires_grad=False),
        torch.zeros(16),
    )
    close = {"rtol": 1e-3, "atol": 1e-3}
    with torch.no_grad():
        before = linear(x, weight, bias)
        weight.mul_(2)
        torch.testing.assert_close(linear(x, weight, bias), 2 * before, **close)
        bias.add_(1)
        torch.testing.assert_close(linear(x, weight, bias), 2 * before + 1, **close)
        torch.testing.assert_close(linear(x, weight, bias, outside=2), 4 * before + 2, **close)
        weight.data, bias.data = weight / 2, bias - 1
        torch.testing.assert_close(linear(x, weight, bias), before, **close)


@pytest.mark.parametrize("kind", PACKED.values())
def test_gradients_pass_through_a_frozen_layer(kind, monkeypatch):
    use(kind, monkeypatch)
    weight, bias = (nn.Parameter(torch.randn(*shape), requires_grad=False) for shape in ((16, 8), (16,)))
    x = torch.randn(3, 8, requires_grad=True)
    linear(x, weight, bias, outside=1.702, silu=True).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_int16_is_for_frozen_weights_that_allow_it(monkeypatch):
    monkeypatch.setattr(Int16Linear, "pays", lambda: True)
    layer, x = nn.Linear(8, 16), torch.randn(3, 8)
    kind = linear_file._kind
    assert kind(x, layer.weight) is None
    allow_int16(layer)
    assert kind(x, layer.weight) is None
    layer.requires_grad_(False)
    assert kind(x, layer.weight) is Int16Linear
    ragged = nn.Linear(8, 24).requires_grad_(False)
    allow_int16(ragged)
    assert kind(x, ragged.weight) is None


@pytest.mark.parametrize("watch", ["trace", "make_fx", "vmap", "mode"])
def test_tracers_modes_and_transforms_see_plain_products(watch, monkeypatch):
    if not Int16Linear.works():
        pytest.skip("int16_product.c was not compiled, or this CPU has no AVX2")
    monkeypatch.setattr(Int16Linear, "pays", lambda: True)
    layer, x = nn.Linear(8, 16).requires_grad_(False), torch.randn(3, 8)
    allow_int16(layer)

    def run(x):
        return linear(x, layer.weight, layer.bias)

    if watch == "trace":
        ours = torch.jit.trace(run, torch.randn(3, 8), check_trace=False)(x)
    elif watch == "make_fx":
        ours = make_fx(run)(torch.randn(3, 8))(x)
    elif watch == "vmap":
        ours = torch.func.vmap(run)(x[:, None])[:, 0]
    else:
        with FlopCounterMode(display=False) as counter:
            ours = run(x)
        assert counter.get_total_flops() == 2 * 3 * 8 * 16
    torch.testing.assert_close(ours, layer(x))
    assert not torch.equal(run(x), layer(x))
