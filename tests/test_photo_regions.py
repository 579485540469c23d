"""A photo, its hole and the square around it: what a mask may be, and that known pixels are never touched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.pipelines.photo_regions import cut_square, mask_photo, paste, square_around
from PIL import Image


def photo(width=90, height=70, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def hole(image, **where):
    """Where a photo is painted, as an array of 0 to 255."""
    return 255 - np.asarray(mask_photo(image, **where).known)


@st.composite
def holes(draw):
    """((left, top, right, bottom), (width, height)), not all of the photo."""
    size = draw(st.tuples(st.integers(64, 999), st.integers(64, 999)))
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in size]
    return (ends[0][0], ends[1][0], ends[0][1], ends[1][1]), size


@given(holes(), st.sampled_from([16, 64, 256]))
def test_a_square_holds_the_hole_and_what_is_beside_it(case, least):
    box, size = case
    left, top, side = square_around(box, size, least)
    longest = max(box[2] - box[0], box[3] - box[1])
    assert left <= box[0] and top <= box[1] and left + side >= box[2] and top + side >= box[3]
    for start, length in zip((left, top), size, strict=True):
        assert 0 <= start <= length - side if side <= length else start == (length - side) // 2
    assert side >= min(1.5 * longest, max(size)) and side <= max(least, 2 * longest, min(size))


@settings(max_examples=30, deadline=None)
@given(holes(), st.tuples(*[st.integers(0, 40)] * 4))
def test_known_pixels_are_the_photos_and_all_others_the_paints(case, expand):
    (left, top, right, bottom), size = case
    image = photo(*size)
    box = (left, top, right - left, bottom - top)
    if box[2:] == size and not any(expand):
        return
    masked = mask_photo(image, box=None if box[2:] == size else box, expand=expand)
    square = cut_square(masked, 64)
    black, white = (
        np.asarray(paste(masked, square, Image.new("RGB", (64, 64), c))) for c in ("black", "white")
    )
    known = np.asarray(masked.known) == 255
    across, down = slice(expand[0], expand[0] + size[0]), slice(expand[1], expand[1] + size[1])
    assert np.array_equal(white[down, across][known[down, across]], np.asarray(image)[known[down, across]])
    assert np.array_equal((black != white).any(2), ~known)


def test_paint_sets_in_softly_and_what_was_in_the_hole_is_gone():
    image = Image.new("RGB", (128, 128), (100, 100, 100))
    image.paste((0, 255, 0), (32, 32, 96, 96))
    masked = mask_photo(image, box=(32, 32, 64, 64))
    square = cut_square(masked, 64)
    assert np.asarray(square.picture).max() == 100
    painted = np.asarray(paste(masked, square, Image.new("RGB", (64, 64), (200, 200, 200))))
    assert painted[64, 30:36, 1].tolist() == [100, 100, 133, 167, 200, 200]


def test_a_mask_may_be_of_any_mode_and_size():
    mask = Image.new("L", (90, 70))
    mask.paste(255, (20, 10, 50, 40))
    hard = hole(photo(), mask=mask)
    assert hard[10:40, 20:50].all() and hard.sum() == 255 * 900
    for mode in ("1", "RGB", "P", "I;16"):
        other = (
            Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
            if mode == "I;16"
            else mask.convert(mode)
        )
        assert np.array_equal(hole(photo(), mask=other), hard), mode
    cut = Image.new("RGBA", (90, 70), "black")
    cut.paste((0, 0, 0, 0), (20, 10, 50, 40))
    assert np.array_equal(hole(photo(), mask=cut), hard)
    assert np.array_equal(hole(photo(), box=(20, 10, 30, 30)), hard)
    larger = hole(photo(), mask=mask.resize((180, 140)))
    assert set(larger[10:40, 20:50].flat) <= set(range(120, 256)) and not larger[:8].any()


def test_a_grey_mask_mixes_and_a_nearly_black_one_does_not():
    ramp = Image.fromarray(np.tile(np.arange(100, dtype=np.uint8) * 2 + 4, (100, 1)))
    masked = mask_photo(Image.new("RGB", (100, 100)), mask=ramp)
    painted = np.asarray(paste(masked, cut_square(masked, 64), Image.new("RGB", (64, 64), "white")))[50, :, 0]
    assert not painted[:3].any() and abs(painted[50] - 104) <= 1 and (np.diff(painted.astype(int)) >= 0).all()


def test_transparent_pixels_are_the_mask_where_there_is_no_other():
    image = photo(mode="RGBA")
    image.paste((9, 9, 9, 0), (5, 6, 25, 36))
    masked = mask_photo(image)
    assert masked.hole == (5, 6, 25, 36)
    assert np.array_equal(np.asarray(masked.picture)[40:], np.asarray(image)[40:, :, :3])
    assert mask_photo(image, box=(0, 0, 9, 9)).hole == (0, 0, 9, 9)
    assert mask_photo(image.convert("LA")).hole == (5, 6, 25, 36)
    palette = photo().convert("P")
    palette.paste(255, (5, 6, 25, 36))
    palette.info["transparency"] = 255
    assert hole(palette)[6:36, 5:25].all()


def test_photo_and_mask_may_be_paths(tmp_path):
    image, mask = photo(), Image.new("L", (90, 70), 0)
    mask.paste(255, (5, 6, 25, 36))
    image.save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    found = mask_photo(tmp_path / "photo.png", str(tmp_path / "mask.png"))
    assert found.hole == (5, 6, 25, 36)
    assert np.array_equal(found.picture, image)


def test_a_photo_lying_on_its_side_is_turned_first():
    image = photo(90, 70)
    image.getexif()[0x0112] = 6
    assert mask_photo(image, box=(0, 80, 70, 10)).picture.size == (70, 90)


def test_sixteen_bits_become_eight():
    deep = Image.fromarray(np.full((70, 90), 128 * 257, np.uint16))
    assert mask_photo(deep, expand=1).picture.getpixel((9, 9)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "nothing says what to paint"),
        ({"image": photo(mode="RGBA")}, "nothing says what to paint"),
        ({"mask": Image.new("L", (90, 70), 5)}, "nothing says what to paint: give a mask that is white"),
        ({"mask": Image.new("L", (90, 70), 255)}, "nothing of the photo would stay"),
        ({"box": (0, 0, 90, 70)}, "nothing of the photo would stay"),
        ({"image": photo(63, 200)}, "the photo has 63 × 200 pixels; each side must have at least 64"),
        ({"mask": Image.new("L", (70, 90))}, "the mask has 70 × 90 pixels and the photo 90 × 70"),
        ({"box": (0, 0, 91, 5)}, r"the box from \(0, 0\) to \(91, 5\) reaches out of the photo of 90 × 70"),
        ({"box": (-1, 0, 9, 5)}, "reaches out"),
        ({"box": (1, 1, 0, 5)}, "a box is x, y, width and height"),
        ({"box": (1, 2, 3)}, "a box is x, y, width and height"),
        ({"box": (1, 2.5, 3, 4)}, "a box is x, y, width and height"),
        ({"box": (0, 0, 9, 9), "mask": Image.new("L", (90, 70))}, "both a mask and a box"),
        ({"expand": -1}, "expand must be pixels to add"),
        ({"expand": (1, 2, 3)}, "expand must be pixels to add"),
        ({"expand": 10**6}, "more than"),
    ],
)
def test_what_cannot_be_painted_is_one_sentence(where, message):
    with pytest.raises(ValueError, match=message):
        mask_photo(**{"image": photo(), **where})


@pytest.mark.parametrize("where", [{"image": 3}, {"mask": 3}])
def test_what_is_no_picture_is_said(where):
    with pytest.raises(TypeError, match="expected a PIL picture or a path, got int"):
        mask_photo(**{"image": photo(), **where})
