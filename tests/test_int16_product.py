"""Products through 16-bit integers: close to the exact ones for every shape and scale, row by row, without overflow."""

from importlib.machinery import EXTENSION_SUFFIXES

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.layers import int16_product
from maquette.layers.int16_product import Int16Product

pytestmark = pytest.mark.skipif(
    not Int16Product.works(), reason="int16_product.c was not compiled, or this CPU has no AVX2"
)
SIZES = {"rows": st.integers(1, 20), "inputs": st.integers(1, 600), "panels": st.integers(1, 5)}


def bound(x, weight):
    """What rounding may change, [rows, outputs]: half a unit for each number."""

    def units(stretches):
        return torch.maximum(stretches.norm(dim=-1) / 46300, stretches.abs().amax(dim=-1) / 32767)

    total = torch.zeros(len(x), len(weight), dtype=torch.float64)
    for a, b in zip(x.split(256, dim=1), weight.split(256, dim=1), strict=True):
        # |ab - (a + da)(b + db)| <= |a| |db| + |b| |da| + |da| |db|, summed
        da, db, n = units(a) / 2, units(b) / 2, a.shape[1]
        total += a.abs().sum(1)[:, None] * db + b.abs().sum(1) * da[:, None] + n * da[:, None] * db
    return total


@settings(deadline=None)
@given(**SIZES, seed=st.integers(0, 99), scale=st.sampled_from([1e-25, 1e-3, 1.0, 1e12]))
def test_the_error_is_that_of_rounding(rows, inputs, panels, seed, scale):
    draw = torch.Generator().manual_seed(seed)
    x, weight = (torch.randn(n, inputs, generator=draw, dtype=torch.float64) for n in (rows, 16 * panels))
    x, bias = x * scale, torch.randn(16 * panels, generator=draw) * scale
    x[:, :: seed + 2] *= 50  # numbers that stick out
    x, weight = x.float(), weight.float()
    ours = Int16Product(weight, bias)(x)
    exact = x.double() @ weight.double().T + bias
    slack = 1e-6 * (
        exact.abs() + x.abs().double() @ weight.abs().double().T
    )  # of float32 sums over stretches
    assert ((ours - exact).abs() <= 1.001 * bound(x.double(), weight.double()) + slack).all()


@given(**SIZES)
@settings(deadline=None, max_examples=30)
def test_sums_of_the_greatest_do_not_overflow(rows, inputs, panels):
    x, weight = torch.full((rows, inputs), 3.0), torch.full((16 * panels, inputs), -7.0)
    ours = Int16Product(weight, torch.zeros(16 * panels))(x)
    torch.testing.assert_close(ours, torch.full_like(ours, -21.0 * inputs), rtol=1e-3, atol=0)


def test_a_row_does_not_depend_on_the_others():
    x, residual = torch.randn(500, 700), torch.randn(500, 48)
    layer = Int16Product(torch.randn(48, 700), torch.randn(48))
    together = layer(x, residual=residual)
    for some in ([0], [499], [3, 250, 7], range(100, 365)):
        assert torch.equal(layer(x[list(some)], residual=residual[list(some)]), together[list(some)])


def test_silu_and_residual_to_float32s_accuracy():
    x = torch.linspace(-100, 100, 16 * 999).view(999, 16)
    x[0] = torch.tensor([0, 1e-30, 1e4, -1e4, 1e30, -1e30, 3e38, -3e38] * 2)
    residual = torch.randn(999, 16)
    ours = Int16Product(torch.zeros(16, 16), x[0])  # a product of nothing leaves the bias
    for bias in x:
        ours.bias = bias
        torch.testing.assert_close(
            ours(torch.zeros(1, 16), silu=True)[0], F.silu(bias), rtol=2e-6, atol=1e-36
        )
    ours.bias = torch.zeros(16)
    assert torch.equal(ours(x, residual=residual), residual)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(bad):
    x = torch.randn(9, 300)
    x[4, 290] = bad
    finite = Int16Product(torch.randn(32, 300), torch.randn(32))(x, silu=True).isfinite().all(dim=1)
    assert finite.tolist() == [row != 4 for row in range(9)]


@pytest.mark.parametrize(
    ("x", "residual", "error"),
    [
        (torch.ones(2, 9), None, ValueError),
        (torch.ones(2, 8), torch.ones(2, 8), ValueError),
        (torch.ones(2, 8, dtype=torch.float64), None, TypeError),
    ],
)
def test_other_shapes_and_formats_are_refused(x, residual, error):
    with pytest.raises(error, match="expected"):
        Int16Product(torch.ones(16, 8), torch.ones(16))(x, residual=residual)
    for outputs, bias in ((17, 17), (0, 0), (16, 1)):
        with pytest.raises(ValueError, match="multiple of 16"):
            Int16Product(torch.ones(outputs, 8), torch.ones(bias))


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_library_that_cannot_be_loaded_is_as_good_as_none(content, tmp_path, monkeypatch):
    monkeypatch.setattr(int16_product, "__file__", str(tmp_path / "int16_product.py"))
    for suffix in EXTENSION_SUFFIXES:
        (tmp_path / f"_int16_product{suffix}").write_bytes(content)
    assert int16_product._library.__wrapped__() is None


def test_strided_input_and_no_rows():
    layer, x = Int16Product(torch.randn(16, 40), torch.zeros(16)), torch.randn(40, 6)
    assert torch.equal(layer(x.T), layer(x.T.contiguous()))
    assert layer(torch.ones(3, 0, 40)).shape == (3, 0, 16)
