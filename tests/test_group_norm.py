"""The fused group norm: its gradients are the plain one's, and its variance does not cancel."""

import pytest
import torch
import torch.nn.functional as F
from maquette.layers import group_norm_silu


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.01)])
@pytest.mark.parametrize("modulated", [False, True])
def test_fast_group_norm_has_the_gradients_of_the_plain_one(modulated, dtype, tolerance):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 64, 6, 10, generator=draw) * 2 + 1
    norm = torch.nn.GroupNorm(32, 64)
    for parameter in norm.parameters():
        parameter.data += 0.3 * torch.randn(64, generator=draw)
    scale, shift = 0.3 * torch.randn(2, 3, 64, generator=draw)
    upstream = torch.randn(x.shape, generator=draw)

    def gradients(dtype, function):
        copy = torch.nn.GroupNorm(32, 64).to(dtype)
        copy.load_state_dict(norm.state_dict())
        leaves = [t.to(dtype).requires_grad_() for t in (x, scale, shift)]
        leaves[0] = leaves[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        modulation = leaves[1:] if modulated else []
        out = function(leaves[0], copy, *modulation)
        inputs = [leaves[0], *copy.parameters(), *modulation]
        return [out, *torch.autograd.grad(out, inputs, upstream.to(dtype))]

    def plain(x, norm, scale=None, shift=None):
        h = norm(x)
        return F.silu(h if scale is None else h * (1 + scale[..., None, None]) + shift[..., None, None])

    fast, exact = gradients(dtype, group_norm_silu), gradients(torch.float32, plain)
    for ours, reference in zip(fast, exact, strict=True):
        assert (ours.float() - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("mean", [0, 10, 30])
@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.01)])
def test_a_mean_of_many_deviations_leaves_the_variance(mean, trains, dtype, tolerance):
    """Against float64, of the x that this format can hold; the means of channels differ, too."""
    draw = torch.Generator().manual_seed(0)
    centres = mean * (1 + 0.1 * torch.randn(2, 64, 1, 1, generator=draw))
    x = (torch.randn(2, 64, 16, 16, generator=draw) + centres).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    norm = torch.nn.GroupNorm(16, 64)
    exact = F.silu(F.group_norm(x.double(), 16, eps=norm.eps))
    with torch.set_grad_enabled(trains):
        ours = group_norm_silu(x, norm.to(dtype)).detach()
    assert (ours.double() - exact).norm() <= tolerance * exact.norm()
