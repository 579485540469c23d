"""Packed blocks and layers compute what plain ones do, and give way where they cannot."""

import copy

import pytest
import torch
from maquette.layers import Block, Transformer, prepare
from maquette.layers.int16_product import Int16Product
from maquette.layers.onednn_product import OneDNNProduct
from maquette.layers.precision import resolve_dtype
from torch import nn

# What packs, in which format, and how far it may be from the plain float32 result.
WAYS = {"plain": (torch.float32, 1e-5), "int16": (torch.float32, 5e-3), "onednn": (torch.bfloat16, 0.1)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    works = {"int16": Int16Product.works, "onednn": OneDNNProduct.works}.get(request.param, lambda: True)
    if not works():
        pytest.skip(f"{request.param}: not compiled, or not for this CPU")
    monkeypatch.setattr(Int16Product, "pays", lambda: request.param == "int16")
    monkeypatch.setattr("maquette.layers.packed.best_dtype", lambda device: torch.bfloat16)
    return request.param


@torch.no_grad()
@pytest.mark.parametrize(
    "block",
    [{}, {"activation": "gelu_tanh"}, {"activation": "quick_gelu", "per_head": False, "causal": True}],
)
@pytest.mark.parametrize("only", [False, True])
def test_a_packed_transformer_computes_the_same(way, block, only):
    torch.manual_seed(0)
    dtype, tolerance = WAYS[way]
    net, x = Transformer(32, 2, 4, **block), torch.randn(3, 7, 32)
    only = torch.tensor([6, 0, 3]) if only else None
    expected = net(x, only=only)
    keys = list(net.state_dict())
    packed = prepare(net.to(dtype), approximate=True)
    assert list(packed.state_dict()) == keys
    assert not any(type(module) in (Block, nn.Linear) for module in packed.modules())
    torch.testing.assert_close(packed(x.to(dtype), only=only).float(), expected, rtol=0.01, atol=tolerance)


@torch.no_grad()
def test_a_copy_and_one_moved_to_another_format_compute_the_same(way):
    dtype, tolerance = WAYS[way]
    net, x = Transformer(32, 1, 2, activation="quick_gelu"), torch.randn(2, 5, 32)
    expected = net(x)
    packed = prepare(net.to(dtype), approximate=True)
    torch.testing.assert_close(copy.deepcopy(packed)(x.to(dtype)), packed(x.to(dtype)))
    torch.testing.assert_close(
        packed.to(torch.float64)(x.double()).float(), expected, rtol=0.01, atol=tolerance
    )


def test_a_gradient_passes_through(way):
    dtype, _ = WAYS[way]
    packed = prepare(Transformer(32, 1, 2, activation="quick_gelu").to(dtype), approximate=True)
    x = torch.randn(2, 5, 32, dtype=dtype, requires_grad=True)
    packed(x).square().sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_without_an_approximation_float32_is_exact(monkeypatch):
    monkeypatch.setattr(Int16Product, "pays", lambda: True)
    layer, x = nn.Sequential(nn.Linear(16, 32)), torch.randn(4, 16)
    expected = layer(x)
    assert torch.equal(prepare(layer)(x), expected) and type(layer[0]) is nn.Linear


@torch.no_grad()
@pytest.mark.skipif(
    not Int16Product.works(), reason="int16_product.c was not compiled, or this CPU has no AVX2"
)
def test_the_int16_product_is_an_operator_that_traces(monkeypatch):
    monkeypatch.setattr(Int16Product, "pays", lambda: True)
    net = prepare(nn.Sequential(nn.Linear(16, 32)), approximate=True)
    traced = torch.jit.trace(net, torch.randn(2, 16), check_trace=False)
    x = torch.randn(5, 16)
    assert torch.equal(traced(x), net(x))


def test_a_format_may_be_named():
    cpu = torch.device("cpu")
    assert resolve_dtype("float16", cpu) == resolve_dtype(torch.float16, cpu) == torch.float16
    for wrong in ("half way", "nn", "int8", 16):
        with pytest.raises(
            ValueError, match="dtype must be a floating torch dtype, its name, or 'auto', not"
        ):
            resolve_dtype(wrong, cpu)
