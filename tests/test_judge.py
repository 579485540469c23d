import numpy as np
import pytest
import torch
from maquette.toybox import COLOURS, THINGS, make_scene, render
from maquette.toybox.judge import Judge
from PIL import Image


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


@pytest.mark.parametrize("split", ["val", "novel"])
def test_the_shipped_judge_names_renders(judge, split):
    scenes = [scene for scene in (make_scene(split, i) for i in range(400)) if len(scene.objects) == 1]
    found = judge.name(np.stack([render(scene, size=64) for scene in scenes]))
    truth = [(scene.objects[0].thing, scene.objects[0].colour) for scene in scenes]
    right = np.array([[f[0] == t[0], f[1] == t[1]] for f, t in zip(found, truth, strict=True)])
    assert (right.mean(0) >= 0.97).all(), right.mean(0)


def test_the_shipped_judge_is_small():
    assert Judge.weights.stat().st_size <= 2_000_000


def test_arrays_pictures_and_tensors_are_judged_alike(judge):
    images = np.stack([render(make_scene("val", i), size=64) for i in range(3)])
    things, colours = judge(images)
    assert things.shape == (3, len(THINGS)) and colours.shape == (3, len(COLOURS))
    torch.testing.assert_close(judge([Image.fromarray(image) for image in images])[0], things)
    torch.testing.assert_close(judge(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)[0], things)


def test_other_shapes_are_refused(judge):
    for wrong in (np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3)), torch.zeros(1, 3, 32, 32)):
        with pytest.raises(ValueError, match="pictures must be"):
            judge(wrong)
