"""Toybox: scenes are pure functions of (split, index), say what they show, and keep held-out pairs apart."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.toybox import (
    COLOURS,
    FINISHES,
    RELATIONS,
    SIZES,
    SPLITS,
    THINGS,
    Scene,
    Toy,
    is_held_out,
    make_scene,
    render,
)
from maquette.toybox.scenes import true_captions

WORDS = {"colour": COLOURS, "thing": THINGS, "size": SIZES, "finish": FINISHES}
VIVID = {
    "red": (204, 26, 32), "orange": (247, 124, 18), "yellow": (250, 214, 34), "green": (46, 152, 58),
    "blue": (32, 84, 208), "purple": (122, 44, 168), "pink": (250, 132, 184),
}  # fmt: skip


def lone(thing: str, colour: str, index: int = 0, **said: str) -> Scene:
    return Scene("val", index, (Toy(thing, colour, **said),), None, f"a {colour} {thing}")


def pair(relation: str, index: int, first: Toy, second: Toy) -> Scene:
    return Scene("val", index, (first, second), relation, "")


@given(st.sampled_from(SPLITS), st.integers(0, 10**6))
def test_every_caption_of_a_scene_is_true_and_the_last_is_the_shortest(split, index):
    scene = make_scene(split, index)
    captions = [caption.split() for caption in true_captions(scene)]
    assert " ".join(captions[0]) == scene.caption
    said = [(toy.size, toy.finish, toy.colour, toy.thing) for toy in scene.objects]
    for words in captions:
        for word in {*SIZES, *FINISHES, *COLOURS, *THINGS} & set(words):
            assert any(word in attributes for attributes in said)
        assert all(toy.colour in words and toy.thing in words for toy in scene.objects)
    if len(captions) > 1:
        assert not {*SIZES, *FINISHES} & set(captions[-1])


def test_a_scene_depends_on_split_and_index_alone():
    assert make_scene("train", 17) == make_scene("train", 17)
    assert [make_scene("train", i).caption for i in (0, 6, 11)] == [
        "a blue lamp behind a black ring",
        "a shiny red car",
        "a shiny pink mushroom",
    ]
    assert make_scene("train", 0).caption != make_scene("val", 0).caption


def test_splits_keep_held_out_pairs_apart():
    seen = {split: set() for split in SPLITS}
    for split in SPLITS:
        for index in range(3000):
            seen[split] |= {(toy.thing, toy.colour) for toy in make_scene(split, index).objects}
    held_out = {(thing, colour) for thing in THINGS for colour in COLOURS if is_held_out(thing, colour)}
    everything = {(thing, colour) for thing in THINGS for colour in COLOURS}
    assert seen["novel"] == held_out
    assert seen["train"] == seen["val"] == everything - held_out


@settings(deadline=None)
@given(st.sampled_from(SPLITS), st.integers(0, 10**9))
def test_captions_say_every_attribute_and_nothing_else(split, index):
    scene = make_scene(split, index)
    attributes = scene.attributes()
    words = scene.caption.split()
    for name, known in WORDS.items():
        said = sorted(word for word in words if word in known)
        assert said == sorted(toy[name] for toy in attributes["objects"] if toy[name])
    assert not any(first == "a" and second[0] in "aeiou" for first, second in pairwise(words))
    assert attributes["relation"] in (*RELATIONS, None)
    assert (attributes["relation"] is None) == (len(attributes["objects"]) == 1)
    if len(scene.objects) == 2:
        first, second = (scene.caption.index(f"{toy.colour} {toy.thing}") for toy in scene.objects)
        assert first < second and scene.objects[0].thing != scene.objects[1].thing
        assert attributes["relation"].split()[0] in scene.caption[first:second]


def test_single_things_are_sixty_percent_and_plain_captions_frequent():
    scenes = [make_scene("train", index) for index in range(4000)]
    single = [scene for scene in scenes if scene.relation is None]
    plain = [
        scene for scene in single if scene.caption.startswith(("a ", "an ")) and " of " not in scene.caption
    ]
    assert 0.57 < len(single) / len(scenes) < 0.63
    assert 0.36 < len(plain) / len(single) < 0.55


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: make_scene("test", 0),
            ValueError,
            "unknown split 'test': expected one of train, val, novel",
        ),
        (lambda: make_scene("train", -1), ValueError, "scene index is -1"),
        (lambda: make_scene("train", 1.5), TypeError, "float"),
        (lambda: is_held_out("dragon", "red"), ValueError, "unknown thing 'dragon'"),
        (lambda: Toy("cube", "teal"), ValueError, "unknown colour 'teal'"),
        (lambda: Toy("cube", "red", size="huge"), ValueError, "unknown size 'huge'"),
        (lambda: render(make_scene("train", 0), 4), ValueError, "picture size is 4: expected 8 to 1024"),
        (lambda: make_scene("train", 0).cloud(0), ValueError, "a cloud of 0 points"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_pictures_are_deterministic_and_any_size():
    scene = make_scene("train", 5)
    picture = render(scene, 64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, render(scene))
    assert render(scene, 37).shape == (37, 37, 3)
    assert not np.array_equal(picture, render(make_scene("train", 6)))


def test_a_small_picture_is_the_large_one_scaled_down():
    for index in range(4):
        scene = make_scene("val", index)
        large = render(scene, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
        assert np.abs(render(scene, 64) - large).mean() < 3


@pytest.mark.parametrize("thing", THINGS)
def test_every_thing_shows_its_colour_inside_the_frame(thing):
    names = list(VIVID)
    paints = np.array([VIVID[name] for name in names], float)
    paints /= paints.max(1, keepdims=True)
    for index, colour in enumerate(("red", "yellow", "green", "blue")):
        picture = render(lone(thing, colour, index, finish="matte")).astype(float)
        strong = np.ptp(picture, axis=2) > 60
        border = np.concatenate([strong[0], strong[-1], strong[:, 0], strong[:, -1]])
        hues = picture[strong] / picture[strong].max(1, keepdims=True)
        nearest = np.linalg.norm(hues[:, None] - paints, axis=2).argmin(1)
        assert strong.mean() > 0.02 and not border.any()
        assert names[np.bincount(nearest, minlength=len(names)).argmax()] == colour


def test_relations_hold_as_the_camera_sees_them():
    cube, ball = Toy("cube", "blue"), Toy("ball", "red")
    for relation in RELATIONS:
        for index in range(5):
            cloud = pair(relation, index, ball, cube).cloud(512)
            is_ball = cloud[:, 3] > cloud[:, 5]
            x, y, z = cloud[is_ball, :3].mean(0) - cloud[~is_ball, :3].mean(0)
            ahead = {"left of": -x, "right of": x, "in front of": -y, "behind": y, "on top of": z}[relation]
            aside = abs(y) if relation in ("left of", "right of") else 0
            assert ahead > 0.2 + aside
            picture = render(pair(relation, index, ball, cube)).astype(int)
            for channel, other in ((0, 2), (2, 0)):
                assert (picture[..., channel] - picture[..., other] > 60).mean() > 0.02


def test_said_sizes_show():
    small, unsaid, large = (
        np.mean(
            [np.ptp(lone("chair", "red", index, **said).mesh().bounds, axis=0).max() for index in range(8)]
        )
        for said in ({"size": "small"}, {}, {"size": "large"})
    )
    assert small < 0.75 * unsaid < 0.75 * 0.85 * large


def test_shiny_things_have_a_highlight_and_matte_ones_have_none():
    for colour in ("blue", "black"):
        shiny = render(lone("ball", colour, 3, finish="shiny"))[16:48, 16:48].min(2).max()
        matte = render(lone("ball", colour, 3, finish="matte"))[24:40, 24:40].min(2).max()
        assert shiny > 180 and matte < 120
