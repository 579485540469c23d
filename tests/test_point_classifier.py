"""The classifier behind P-FID and P-IS against what the original computed."""

import pytest
import torch
from einops import rearrange
from goldens.formula import formula_state_dict
from maquette.point_e import PointNetClassifier, in_unit_ball


def assert_close(ours, record):
    assert ours.shape == record.shape
    assert (ours - record).abs().max().item() <= 2e-4 * max(1.0, record.abs().max().item())


def classifier(manifest, config=None):
    weights = formula_state_dict(manifest["weights"], manifest["salt"])
    return PointNetClassifier.from_original(weights, config)


@torch.inference_mode()
def test_record_of_a_saved_network(golden, tmp_path):
    manifest, tensors = golden("point_e/metrics")
    classifier(manifest, manifest["config"]).save_pretrained(tmp_path)
    net = PointNetClassifier.from_pretrained(tmp_path)
    assert {key: net.config[key] for key in manifest["config"]} == manifest["config"]
    clouds = in_unit_ball(tensors["in/clouds"])
    assert_close(clouds, tensors["out/normalised"])
    # The original's rule: the search in the cloud at place i of a batch starts from its point i.
    result = net(rearrange(clouds, "n points c -> n c points"), starts=torch.arange(2))
    assert_close(result.features, tensors["out/features"])
    assert_close(result.log_probabilities, tensors["out/log_probabilities"])


@torch.inference_mode()
def test_a_cloud_does_not_depend_on_its_batch(golden):
    manifest, tensors = golden("point_e/metrics")
    net = classifier(manifest)
    clouds = rearrange(tensors["out/normalised"], "n points c -> n c points")
    together = net(clouds).features
    assert_close(together[:1], tensors["out/features"][:1])
    assert_close(net(clouds[1:]).features, together[1:])


def test_what_does_not_fit_is_named(golden):
    manifest, tensors = golden("point_e/metrics")
    with pytest.raises(ValueError, match="unknown config key 'labels'"):
        classifier(manifest, {"labels": 40})
    with pytest.raises(ValueError, match=r"expected \[N, 3, points\]"):
        classifier(manifest)(tensors["in/clouds"])
