"""The judge of two things: right on renders, whichever thing is named first, and strict about what is there."""

import numpy as np
import pytest
import torch
from maquette.toybox import RELATIONS, Scene, Toy, make_scene, render
from maquette.toybox.judge_training import augmented
from maquette.toybox.pair_judge import OPPOSITES, PairJudge


@pytest.fixture(scope="module")
def judge():
    return PairJudge.load()


def pair_scenes(split: str, start: int, number: int) -> list[Scene]:
    scenes = (make_scene(split, i) for i in range(start, start + 4 * number))
    return [scene for scene in scenes if scene.relation][:number]


def renders(scenes: list[Scene]) -> np.ndarray:
    return np.stack([render(scene, size=64) for scene in scenes])


# Scenes far behind those that the judge was tested on when it was chosen.
@pytest.mark.parametrize(("split", "least"), [("val", 0.95), ("novel", 0.92)])
def test_the_shipped_judge_is_right_about_renders(judge, split, least):
    scenes = pair_scenes(split, 50_000, 200)
    pairs, relations = judge.right(renders(scenes), scenes)
    assert pairs.mean() >= least
    assert relations.sum() >= 0.98 * pairs.sum()


def test_the_shipped_judge_is_small():
    assert PairJudge.weights.stat().st_size <= 3_000_000


def test_either_thing_can_be_named_first(judge):
    scenes = [scene for scene in pair_scenes("val", 0, 40) if scene.relation != "on top of"]
    turned = [Scene("val", 0, scene.objects[::-1], OPPOSITES[scene.relation], "") for scene in scenes]
    pictures = renders(scenes)
    for asked, answered in zip(judge.right(pictures, scenes), judge.right(pictures, turned), strict=True):
        assert (asked == answered).all()


def test_only_the_true_relation_is_right(judge):
    scenes = pair_scenes("val", 0, 40)
    pictures = renders(scenes)
    right = [
        judge.right(pictures, [Scene("val", 0, scene.objects, relation, "") for scene in scenes])[1]
        for relation in RELATIONS
    ]
    assert np.stack(right).sum(0).max() == 1


def test_a_mirror_swaps_left_and_right(judge):
    scenes = [scene for scene in pair_scenes("val", 0, 100) if scene.relation in ("left of", "right of")]
    turned = [Scene("val", 0, scene.objects, OPPOSITES[scene.relation], "") for scene in scenes]
    mirrored = np.ascontiguousarray(renders(scenes)[:, :, ::-1])
    relations = judge.right(mirrored, turned)[1]
    assert relations.sum() >= 0.9 * len(scenes)
    assert not judge.right(mirrored, scenes)[1].any()


def test_one_thing_is_not_two(judge):
    singles = [scene for scene in (make_scene("val", i) for i in range(100)) if not scene.relation]
    found = judge.name(renders(singles))
    counts = [len(seen.pairs) for seen in found]
    assert np.mean([count == 1 for count in counts]) >= 0.9
    assert all((seen.relation is None) == (len(seen.pairs) != 2) for seen in found)


def test_augmentation_says_what_it_mirrored():
    torch.manual_seed(0)
    left = torch.zeros(64, 3, 64, 64)
    left[..., :32] = 1
    pixels, mirrored = augmented(left)
    is_right = pixels[..., 40:].mean((1, 2, 3)) > pixels[..., :24].mean((1, 2, 3))
    assert torch.equal(is_right, mirrored) and 0 < mirrored.sum() < 64


@pytest.mark.parametrize(
    "objects",
    [(Toy("cube", "red"),), (Toy("cube", "red"), Toy("cube", "red"))],
    ids=["one thing", "two of a kind"],
)
def test_other_scenes_are_refused(judge, objects):
    scene = Scene("val", 0, objects, "behind", "cubes")
    with pytest.raises(ValueError, match='two things of two kinds in a relation, not "cubes"'):
        judge.right(np.zeros((1, 64, 64, 3), np.uint8), [scene])


def test_there_is_a_scene_per_picture(judge):
    with pytest.raises(ValueError, match="one scene per picture, not 1 for 2"):
        judge.right(np.zeros((2, 64, 64, 3), np.uint8), pair_scenes("val", 0, 1))
