"""CLIP's preprocessing: torchvision's numbers, and pictures of every kind opened rightly or refused."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.clip.openai.clip import _transform
from maquette.clip.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess, open_picture, pictures_of, to_8_bits
from open_clip import image_transform
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_sample_images
from torchvision import transforms

RED, WHITE = (200, 30, 40), (255, 255, 255)


@pytest.fixture(scope="module")
def photographs():
    """Two photographs, one of them cut to odd proportions as well, and the smallest and tallest of pictures."""
    china, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    whole = [china, flower, china.rotate(90, expand=True)]
    return [*whole, china.crop((3, 5, 304, 118)), flower.crop((0, 0, 1, 1)), flower.resize((3, 1000))]


@pytest.mark.parametrize("size", [32, 225])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_numbers_are_open_clips(photographs, size, interpolation, resize_mode):
    numbers = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    ours = Preprocess(size, *numbers, interpolation, resize_mode)
    theirs = image_transform(size, False, *numbers, resize_mode=resize_mode, interpolation=interpolation)
    for picture in photographs:
        if resize_mode == "longest" and min(picture.size) * size < max(picture.size):
            continue  # open_clip would make it less than a pixel wide
        assert torch.equal(ours(picture), theirs(picture)), picture.size


# All that Pillow converts to RGB.
MODES = ["RGB", "L", "LA", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "1", "I", "F", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_openais_interface_treats_other_modes_as_the_original_does(photographs, mode):
    alpha = photographs[0].convert("L")
    picture = photographs[0].copy()
    picture.putalpha(alpha)
    if mode == "PA":
        picture = picture.convert("LA")
    picture = picture.convert("I" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = picture.point(lambda value: value * 100).convert(mode)
    steps = [
        transforms.Resize(64, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(64),
        lambda resized: resized.convert("RGB"),
        transforms.ToTensor(),
        transforms.Normalize(OPENAI_MEAN, OPENAI_STD),
    ]
    assert torch.equal(_transform(64)(picture), transforms.Compose(steps)(picture))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 65),
    st.sampled_from(["shortest", "squash", "longest"]),
    st.sampled_from(["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "F"]),
)
def test_any_size_and_mode_gives_the_pixels_asked_for(width, height, size, resize_mode, mode):
    pixels = Preprocess(size, (0, 0, 0), (1, 1, 1), resize_mode=resize_mode)(Image.new(mode, (width, height)))
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_a_picture_a_pixel_high_and_a_million_wide_needs_no_more_memory_than_another():
    wide = Image.new("RGB", (2_000_000, 1), RED)
    wide.paste(WHITE, (0, 0, 999_990, 1))
    wide.paste(WHITE, (1_000_010, 0, 2_000_000, 1))
    pixels = Preprocess(16, (0, 0, 0), (1, 1, 1))(wide)  # whole it would have 512,000,000 pixels
    assert torch.equal(pixels * 255, torch.tensor(RED).view(3, 1, 1).expand(3, 16, 16))


def test_bad_settings_are_one_sentence():
    with pytest.raises(ValueError, match="size must be at least 1"):
        Preprocess(0)
    with pytest.raises(ValueError, match="interpolation must be one of bicubic, bilinear, got 'nearest'"):
        Preprocess(8, interpolation="nearest")
    with pytest.raises(ValueError, match="resize_mode must be one of"):
        Preprocess(8, resize_mode="crop")
    with pytest.raises(TypeError, match="expected a PIL picture or a path, got ndarray"):
        Preprocess(8)(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="no pixels"):
        Preprocess(8)(Image.new("RGB", (0, 3)))
    config = {"image_resolution": 8, "image_mean": [0, 0, 0], "image_std": None, "resize_mode": "squash"}
    assert Preprocess.from_config(config) == Preprocess(8, (0, 0, 0), resize_mode="squash")


def stored(picture, format="PNG", **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def half_and_half(mode, left, right):
    picture = Image.new(mode, (32, 16), right)
    picture.paste(left, (0, 0, 16, 16))
    return picture


def palette_picture():
    picture = half_and_half("P", 0, 1)
    picture.putpalette([*RED, 0, 0, 0])
    return picture


def sixteen_bits():
    levels = np.full((16, 32), 200 * 257, dtype=np.uint16)
    levels[:, 16:] = 255  # a sliver of light, which Pillow's own conversion makes white
    return Image.fromarray(levels)


GREY, BLACK = (200,) * 3, (0, 0, 0)
KINDS = {
    "grey": (stored(half_and_half("L", 200, 0)), GREY, BLACK),
    "1 bit": (stored(half_and_half("1", 1, 0)), WHITE, BLACK),
    "16-bit PNG": (stored(sixteen_bits()), GREY, (1, 1, 1)),
    "16-bit TIFF": (stored(sixteen_bits(), "TIFF"), GREY, (1, 1, 1)),
    "16-bit PNG with a transparent level": (stored(sixteen_bits(), transparency=255), GREY, WHITE),
    "32-bit float TIFF": (stored(half_and_half("F", 200 / 255, 1), "TIFF"), GREY, WHITE),
    "CMYK JPEG": (stored(half_and_half("CMYK", (0, 0, 0, 55), (0, 0, 0, 255)), "JPEG"), GREY, BLACK),
    "palette": (stored(palette_picture()), RED, BLACK),
    "palette with a transparent entry": (stored(palette_picture(), transparency=1), RED, WHITE),
    "grey with alpha": (stored(half_and_half("LA", (200, 255), (0, 0))), GREY, WHITE),
    "alpha": (stored(half_and_half("RGBA", (*RED, 255), (0, 0, 0, 0))), RED, WHITE),
    "half transparent": (stored(half_and_half("RGBA", (*RED, 255), (0, 0, 0, 128))), RED, (127,) * 3),
    "colour key": (stored(half_and_half("RGB", RED, (1, 2, 3)), transparency=(1, 2, 3)), RED, WHITE),
    "WebP with alpha": (
        stored(half_and_half("RGBA", (*RED, 255), (0, 0, 0, 0)), "WEBP", lossless=True),
        RED,
        WHITE,
    ),
    "animated GIF": (
        stored(
            palette_picture(),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (32, 16), 1)],
        ),
        RED,
        BLACK,
    ),
    "animated and transparent GIF": (
        stored(
            half_and_half("RGBA", (*RED, 255), (0, 0, 0, 0)),
            "GIF",
            save_all=True,
            append_images=[Image.new("RGBA", (32, 16), "blue")],
        ),
        RED,
        WHITE,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_opens_rightly(kind):
    content, left, right = KINDS[kind]
    picture = open_picture(content)
    assert (picture.mode, picture.size) == ("RGB", (32, 16))
    assert np.allclose([picture.getpixel((4, 8)), picture.getpixel((28, 8))], [left, right], atol=3)


def test_whole_numbers_in_memory_are_of_8_bits_if_none_is_larger():
    for white, seen in ((255, 200), (65535, 1)):
        picture = half_and_half("I", 200, 0)
        picture.putpixel((31, 0), white)
        assert to_8_bits(picture).getpixel((4, 8)) == seen


@pytest.mark.parametrize("orientation", range(10))
def test_exif_turns_a_picture_upright(orientation):
    upright = Image.fromarray(np.arange(0, 240, 10, dtype=np.uint8).repeat(3).reshape(4, 6, 3))
    # What undoes each orientation, 1 to 8; others mean nothing.
    lying = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    as_taken = upright.transpose(lying[orientation]) if orientation in lying else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "TIFF"):
        assert np.array_equal(open_picture(stored(as_taken, format, exif=exif)), upright), format
    jpeg = open_picture(stored(as_taken, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(np.array(jpeg, dtype=int) - upright).max() < 8
    assert np.array_equal(open_picture(stored(upright, exif=b"Exif\0\0nonsense")), upright)


def test_a_path_is_its_picture_upright(tmp_path):
    picture, exif = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "lying.png", exif=exif)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    for path in (tmp_path / "lying.png", str(tmp_path / "lying.png")):
        assert torch.equal(Preprocess(8)(path), Preprocess(8)(upright))
        for paths in (path, [path], iter([path])):
            assert [np.array_equal(each, upright) for each in pictures_of(paths)] == [True]
    assert list(pictures_of(picture)) == list(pictures_of([picture])) == [picture]


def test_what_is_no_picture_is_pillows_error(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    with pytest.raises(FileNotFoundError, match=r"picture\.png"):
        open_picture(path)
    # Postscript is a picture to Pillow, which would hand it to another program.
    for content in (b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        path.write_bytes(content)
        with pytest.raises(UnidentifiedImageError, match=r"cannot identify image file .*picture\.png"):
            open_picture(str(path))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
        path.write_bytes(stored(noise, format)[:-900])
        with path.open("rb") as file, pytest.raises(OSError):
            open_picture(file)
        with pytest.raises(ValueError, match=r"picture\.png: "):
            open_picture(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(ValueError, match="more than 1,000"):
        open_picture(stored(Image.new("L", (40, 40))))
    with pytest.raises(Image.DecompressionBombError):
        open_picture(stored(Image.new("L", (50, 50))))
    assert open_picture(stored(Image.new("L", (1, 1), 7))).getpixel((0, 0)) == (7, 7, 7)


def test_pictures_of_every_mode_are_open_clips_but_where_it_loses_something():
    from open_clip.transform import PreprocessCfg, image_transform_v2

    theirs = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    ours = Preprocess(32)
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 4), dtype=np.uint8)
    colours = Image.fromarray(noise).convert("RGB")
    for mode in ("RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB"):
        picture = (
            colours.convert("RGB").convert(mode) if mode != "LAB" else Image.merge("LAB", colours.split())
        )
        assert np.array_equal(ours(picture), theirs(picture)), mode
    white = Image.new("RGBA", (70, 50), "white")
    for mode in ("RGBA", "LA"):
        picture = Image.fromarray(noise).convert(mode)
        on_white = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        assert np.array_equal(ours(picture), theirs(on_white)), mode
    grey = noise[..., 0].astype(np.uint16)
    assert np.array_equal(ours(Image.fromarray(grey * 257)), theirs(Image.fromarray(noise[..., 0])))
