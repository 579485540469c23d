"""`maquette vary`, `blend`, `edit` and `create --via`: files, and one sentence for everything that goes wrong."""

import pytest
from maquette.__main__ import main
from PIL import Image
from tiny_models import tiny_glide, tiny_unclip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_unclip().save_pretrained(folder)
    return folder


@pytest.fixture
def run(model, tmp_path, monkeypatch, capsys):
    """run("vary", "red.png") beside red.png and blue.jpg -> (exit code, lines printed, standard error)."""
    monkeypatch.chdir(tmp_path)
    for name in ("red.png", "blue.jpg"):
        Image.new("RGB", (50, 40), name.split(".")[0]).save(name)
    (tmp_path / "words.png").write_text("no picture")

    def run(*arguments, model=model):
        code = main([*map(str, arguments), "--model", str(model)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_words_become_a_picture_via_unclip(run, tmp_path):
    code, lines, _ = run("create", "a red chair", "--via", "unclip", "--seed", 5)
    assert (code, lines) == (0, [str(tmp_path / "a-red-chair.png")])
    picture = Image.open(lines[0])
    assert picture.size == (32, 32)
    assert picture.text.items() >= {"prompt": "a red chair", "seed": "5", "steps": "3"}.items()


def test_a_photo_is_varied(run, tmp_path):
    code, lines, _ = run("vary", "red.png", "-n", 2, "--preset", "fast", "--steps", 1, "--strength", 0.5)
    names = ["red-varied-seed0.png", "red-varied-seed1.png", "red-varied.png"]
    assert (code, lines) == (0, [str(tmp_path / name) for name in names])
    said = {"photo": "red.png", "preset": "fast", "seed": "1", "steps": "1", "strength": "0.5"}
    assert Image.open(lines[1]).text.items() >= said.items()


@pytest.mark.parametrize("name", [None, "moving.png", "moving.webp"])
def test_a_blend_moves(run, tmp_path, name):
    code, lines, _ = run("blend", "red.png", "blue.jpg", "--steps", 3, *(["-o", name] if name else []))
    assert (code, lines) == (0, [str(tmp_path / (name or "red-to-blue.gif"))])
    picture = Image.open(lines[0])
    assert picture.n_frames == 3 and picture.size == (32, 32)


def test_a_photo_is_edited(run, tmp_path):
    code, lines, _ = run("edit", "red.png", "--from", "a red car", "--to", "a blue car", "--strength", 0.5)
    assert (code, lines) == (0, [str(tmp_path / "red-a-blue-car.png")])
    said = {"before": "a red car", "after": "a blue car", "strength": "0.5", "photo": "red.png"}
    assert Image.open(lines[0]).text.items() >= said.items()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vary", "words.png"], "cannot identify image file"),
        (["vary", "red.png", "-n", 0], "number of samples must be a whole number from 1"),
        (["vary", "red.png", "--preset", "original"], "unknown preset 'original'"),
        (["vary", "red.png", "--strength", 0], "the strength must be above 0"),
        (["blend", "red.png"], "Missing argument 'last'"),
        (["blend", "red.png", "blue.jpg", "--steps", 1], "both ends included, must be a whole number from 2"),
        (["blend", "red.png", "blue.jpg", "-o", "a.jpg"], "expected one of .gif, .png, .webp"),
        (["edit", "red.png", "--from", "a", "--to", "b", "--strength", 1.5], "strength must be from 0"),
        (["edit", "red.png", "--from", "a", "--to", " "], "a text is empty"),
        (["create", "a cat", "--size", 64], "--size goes with GLIDE"),
        (["create", "a cat", "--via", "glide"], "it draws via unclip"),
        (["create", "a cat", "--preset", "original"], "unknown preset 'original'"),
    ],
)
def test_bad_input_is_one_sentence(run, tmp_path, arguments, said):
    before = sorted(tmp_path.iterdir())
    code, lines, err = run(*arguments)
    assert (code, lines) == (2, []) and said in err and "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("maquette: ") and sorted(tmp_path.iterdir()) == before


def test_a_model_without_unclip_says_so(run):
    code, _, err = run("vary", "red.png", model="glide")
    assert code == 2 and "for image-variation there are mini, kakaobrain/karlo-v1-alpha-image" in err
    code, _, err = run("create", "a cat", "--via", "unclip", model="glide")
    assert (
        code == 2 and "glide has no unCLIP; give a model's folder or kakaobrain/karlo-v1-alpha or mini" in err
    )


def test_a_glide_is_no_unclip(run, tmp_path):
    tiny_glide().save_pretrained(tmp_path / "glide")
    code, _, err = run("vary", "red.png", model=tmp_path / "glide")
    assert code == 2 and "UnCLIPVariationPipeline wants UnCLIPDecoder" in err
