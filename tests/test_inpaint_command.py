"""`maquette inpaint`: a photo and words in, pictures out, and one sentence for everything that goes wrong."""

import os

import numpy as np
import pytest
from maquette.__main__ import main
from PIL import Image
from tiny_models import tiny_two_stages


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_two_stages().save_pretrained(folder)
    return folder


@pytest.fixture
def inpaint(model, tmp_path, monkeypatch, capsys):
    """inpaint("photo.png", "a cat") beside photo.png and mask.png -> (exit code, lines printed, standard error)."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    mask = Image.new("L", (101, 75))
    mask.paste(255, (20, 30, 50, 60))
    mask.save("mask.png")

    def run(*arguments):
        code = main(["inpaint", *map(str, arguments), "--steps", "1", "--model", str(model)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_a_picture_carries_its_settings_and_keeps_the_photo(inpaint, model, tmp_path):
    code, lines, _ = inpaint("photo.png", "a red chair", "--mask", "mask.png", "--seed", 5)
    assert (code, lines) == (0, [str(tmp_path / "a-red-chair.png")])
    picture, image, mask = (np.asarray(Image.open(path)) for path in (lines[0], "photo.png", "mask.png"))
    assert np.array_equal(picture[mask == 0], image[mask == 0]) and (picture != image)[mask > 0].mean() > 0.9
    said = {"prompt": "a red chair", "seed": "5", "steps": "1", "model": str(model)}
    assert Image.open(lines[0]).text.items() >= {**said, "photo": "photo.png", "mask": "mask.png"}.items()


@pytest.mark.parametrize(("suffix", "hinted"), [("webp", False), ("jpg", True)])
def test_a_file_that_does_not_keep_the_photos_pixels_is_said_to(inpaint, tmp_path, suffix, hinted):
    _, lines, err = inpaint("photo.png", "a cat", "--mask", "mask.png", "-o", f"out.{suffix}")
    picture, image, mask = (np.asarray(Image.open(path)) for path in (lines[0], "photo.png", "mask.png"))
    assert np.array_equal(picture[mask == 0], image[mask == 0]) is not hinted
    assert ("hint: a JPEG" in err) is hinted


def test_several_pictures_make_a_sheet_and_stand_beside_it(inpaint):
    code, lines, _ = inpaint("photo.png", "a cat", "--box", "20,30,30,30", "--expand", "0,0,9,0", "-n", 2)
    assert code == 0 and [os.path.basename(line) for line in lines] == [
        "a-cat-seed0.png", "a-cat-seed1.png", "a-cat.png",
    ]  # fmt: skip
    assert Image.open(lines[0]).size == (110, 75)
    assert Image.open(lines[2]).text["box"] == "20,30,30,30"
    assert Image.open(lines[2]).text["expand"] == "0,0,9,0"


def test_a_photo_lying_on_its_side_is_painted_upright(inpaint):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("photo.png").save("lying.png", exif=exif)
    code, lines, _ = inpaint("lying.png", "a cat", "--box", "0,90,20,11", "-o", "out.png")
    assert code == 0
    upright, before = np.asarray(Image.open(lines[0])), np.asarray(Image.open("photo.png"))
    assert np.array_equal(upright[:90], np.rot90(before, -1)[:90])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "a cat"], "nothing says what to paint"),
        (["photo.png", "", "--expand", "8"], "prompt is empty"),
        (["photo.png", "a cat", "--box", "1,2,3"], "a box is x, y, width and height"),
        (
            ["photo.png", "a cat", "--box", "a,b"],
            "--box takes whole numbers with commas between them, not 'a,b'",
        ),
        (["photo.png", "a cat", "--box", "90,0,20,20"], "reaches out of the photo of 101 × 75 pixels"),
        (["photo.png", "a cat", "--expand", "1,2"], "expand must be pixels to add"),
        (["photo.png", "a cat", "--mask", "mask.png", "--box", "1,2,3,4"], "both a mask and a box"),
        (["photo.png", "a cat", "--mask", "none.png"], "none.png"),
        (["none.png", "a cat", "--expand", "8"], "none.png"),
        (["broken.png", "a cat", "--expand", "8"], ""),
        (["words.txt", "a cat", "--expand", "8"], "cannot identify image file"),
        (["photo.png", "a cat", "--expand", "8", "-o", "out.txt"], "does not end like a picture"),
        (["photo.png", "a cat", "--expand", "8", "--preset", "fast"], "unknown preset"),
        (["photo.png"], "Missing argument 'prompt'"),
    ],
)
def test_bad_arguments_are_one_sentence_and_no_file(inpaint, tmp_path, arguments, message):
    (tmp_path / "words.txt").write_text("no picture")
    (tmp_path / "broken.png").write_bytes((tmp_path / "photo.png").read_bytes()[:-9000])
    before = sorted(tmp_path.iterdir())
    code, lines, err = inpaint(*arguments)
    assert (code, lines, sorted(tmp_path.iterdir())) == (2, [], before)
    assert err.startswith("maquette: ") and err.count("\n") == 1 and message in err


def test_unknown_models_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("photo.png")
    assert main(["inpaint", "photo.png", "a cat", "--expand", "8", "--model", "mimi"]) == 2
    assert "did you mean 'mini'" in capsys.readouterr().err
