"""The rulers of texture: low for other renders of the same scenes, higher for noise, blur, ragged edges and JPEG."""

import io
from dataclasses import replace

import numpy as np
import pytest
from maquette.toybox import make_scene, render
from maquette.toybox.texture import gradient_energy, texture_distance
from PIL import Image
from scipy import ndimage

SCENES = [make_scene("val", i) for i in range(40)]


@pytest.fixture(scope="module")
def renders():
    return np.stack([render(scene, size=64) for scene in SCENES])


@pytest.fixture(scope="module")
def others():
    return np.stack([render(replace(scene, index=scene.index + 10**6), size=64) for scene in SCENES])


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 3, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def blurred(images: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, 0.5, 0.5, 0))


def speckled(images: np.ndarray) -> np.ndarray:
    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file, "jpeg", quality=85)
    return np.stack([np.asarray(Image.open(file)) for file in files])


def ragged(images: np.ndarray) -> np.ndarray:
    """Each pixel taken from about half a pixel away."""
    places = np.mgrid[:64, :64] + np.random.default_rng(0).normal(0, 0.5, (2, 64, 64))
    channels = [
        [ndimage.map_coordinates(image[..., c], places, order=1) for c in range(3)] for image in images
    ]
    return np.moveaxis(np.array(channels), 1, 3)


@pytest.mark.parametrize("spoiled", [noisy, blurred, speckled, ragged])
def test_what_an_eye_sees_is_far_over_the_floor(renders, others, spoiled):
    floor = texture_distance(others, renders)
    assert 0 <= floor < 0.05
    assert texture_distance(spoiled(others), renders) > 4 * floor


def test_the_distance_is_one_of_sets(renders):
    assert texture_distance(renders, renders) == pytest.approx(0, abs=1e-6)
    assert texture_distance(renders[:20], renders[20:]) == pytest.approx(
        texture_distance(list(map(Image.fromarray, renders[39:19:-1])), renders[:20])
    )


def test_flat_pictures_have_a_finite_distance(renders):
    assert np.isfinite(texture_distance(np.full((2, 64, 64, 3), 200, np.uint8), renders))


def test_gradient_energy_tells_sharp_from_soft(renders):
    assert gradient_energy(blurred(renders)) < gradient_energy(renders) < gradient_energy(noisy(renders))
    stripes = np.zeros((1, 8, 8, 3), np.uint8)
    stripes[:, :, ::2] = 255
    assert gradient_energy(stripes) == pytest.approx(1)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((1, 64, 64, 3)), "must be uint8"),
        (np.zeros((0, 64, 64, 3), np.uint8), "must be uint8"),
        (np.zeros((1, 4, 64, 3), np.uint8), "at least 8 px"),
        (np.zeros((1, 32, 32, 3), np.uint8), "one size"),
    ],
)
def test_other_arrays_are_refused(renders, pictures, message):
    with pytest.raises(ValueError, match=message):
        texture_distance(pictures, renders)
