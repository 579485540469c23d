"""examples/fine_tune_glide.py: what it takes of a folder of somebody's own pictures."""

import importlib.util
from pathlib import Path

import pytest
from maquette.clip.training.pairs import caption_in
from PIL import Image

PLACE = Path(__file__).parents[1] / "examples" / "fine_tune_glide.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("fine_tune_glide", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_cannot_be_learned_from_is_named_and_left_out(example, tmp_path, capsys):
    (tmp_path / "deeper").mkdir()
    captions = {
        "a.jpg": "a cat\n",
        "b.JPG": "",
        "c.png": None,
        "cut.png": "a car",
        "deeper/d.gif": "\ufeffa dog\r\n",
        "small.png": "a dot",
        "._a.png": "a ghost",
        "old.png": None,
    }
    for name, caption in captions.items():
        path = tmp_path / name
        side = 20 if name == "small.png" else 80
        Image.new("RGB", (side, side), (200, 30, 30)).save(path)
        if caption is not None:
            path.with_suffix(".txt").write_text(caption, encoding="utf-8", newline="")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "old.txt").write_bytes("café".encode("cp1252"))
    found = example.with_captions(tmp_path, 64)
    assert [(list(picture), caption) for picture, caption in found] == [
        (["jpg"], "a cat"),
        (["gif"], "a dog"),
    ]
    left_out = capsys.readouterr().err
    for name in ("b.JPG", "c.png", "small.png", "cut.png", "old.png"):
        assert f"left out {tmp_path / name}:" in left_out
    assert "ghost" not in left_out and left_out.count("left out") == 5


def test_a_caption_is_learned_as_it_would_be_asked_for():
    assert caption_in({"txt": "\ufeffa red chair\r\n".encode()}) == "a red chair"
