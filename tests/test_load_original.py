"""Weights into modules: nothing missing, nothing left over, nothing shared with where they came from."""

import pytest
import torch
from maquette.weights.load_original import check_config_keys, load_original
from torch import nn


def tiny():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_are_copied_and_converted(device):
    source = tiny().half().state_dict()
    source["0.weight"] = source["0.weight"].t().contiguous().t()
    with torch.device(device):
        module = tiny()
    loaded = load_original(module, source)
    assert loaded is module and not module.training and module[0].weight.requires_grad
    assert module[0].weight.dtype == torch.float32 and module[0].weight.is_contiguous()
    assert module[1].num_batches_tracked.dtype == torch.int64
    assert all(torch.equal(value, source[key].to(value.dtype)) for key, value in module.state_dict().items())
    before = source["0.bias"].clone()
    with torch.no_grad():
        module[0].bias.add_(1)
    assert torch.equal(source["0.bias"], before)


def test_own_format_is_copied_too():
    source = tiny().state_dict()
    module = load_original(tiny(), source)
    assert not {v.data_ptr() for v in module.parameters()} & {v.data_ptr() for v in source.values()}
    assert load_original(tiny(), source, torch.bfloat16)[0].weight.dtype == torch.bfloat16


def test_what_does_not_fit_is_named():
    state = tiny().state_dict()
    state["0.bias"] = torch.ones(4)
    state["2.bias"] = state.pop("1.bias")
    with pytest.raises(
        ValueError,
        match=r"fit Sequential: 1.bias \(missing\), 2.bias \(unexpected\), 0.bias \(shape \[4\], expected \[3\]\)",
    ):
        load_original(tiny(), state)


def test_unknown_config_keys_are_named_with_the_nearest():
    check_config_keys({"width": 3}, ["width", "heads"])
    with pytest.raises(ValueError, match=r"key 'widht' \(did you mean 'width'\?\); known are width, heads"):
        check_config_keys({"widht": 3, "heads": 1}, ["width", "heads"])
