"""`maquette embed` and `maquette search`: what they print and write, and one sentence for all that goes wrong."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from maquette.__main__ import main
from maquette.search.picture_index import PictureIndex
from PIL import Image
from tiny_models import tiny_clip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_clip().save_pretrained(folder)
    return folder


def draw(path, number):
    noise = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((40, 30), Image.Resampling.NEAREST).save(path)


@pytest.fixture(scope="module")
def embedded(model, tmp_path_factory):
    """A folder with `pictures` (one of them broken) and their `index`."""
    place = tmp_path_factory.mktemp("embedded")
    (place / "pictures").mkdir()
    for number in range(5):
        draw(place / "pictures" / f"number {number}.png", number)
    (place / "pictures" / "bro\nken.jpg").write_bytes(b"no picture")
    code = main(["embed", str(place / "pictures"), "--index", str(place / "index"), "--model", str(model)])
    assert code == 0
    return place


@pytest.fixture
def run(embedded, tmp_path, monkeypatch, capsys):
    """run("search", …) in a copy of `embedded` -> (exit code, lines printed, what went to standard error)."""
    shutil.copytree(embedded, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")

    def run(*arguments):
        capsys.readouterr()
        code = main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def test_embed_says_what_it_did_and_search_prints_a_table(run, tmp_path):
    here = tmp_path / "copy"
    shutil.move(here / "pictures" / "number 4.png", here / "pictures" / "four.png")
    draw(here / "pictures" / "new.png", 9)
    code, lines, err = run("embed", "pictures", "--index", "index")
    assert (code, lines) == (
        0, [f"1 new, 0 changed, 1 moved, 4 unchanged, 0 removed, 1 skipped; 6 pictures in {here / 'index'}"],
    )  # fmt: skip
    assert "skipped bro?ken.jpg: not a picture" in err

    code, lines, err = run("search", "index", "pictures/four.png", "-k", 3)
    assert code == 0 and "nearest to the picture pictures/four.png" in err
    assert lines[0].split() == ["score", "picture"] and lines[1] == "  1   1.000  pictures/four.png"
    assert len(lines) == 4

    code, lines, err = run("search", "index", "a red boat", "--json", "--sheet", "found.png")
    found = json.loads("\n".join(lines))
    assert code == 0 and (found["query"], found["kind"], len(found["results"])) == ("a red boat", "words", 6)
    assert Image.open("found.png").text == {"query": "a red boat"}
    assert Image.open("found.png").width > 2 * 192

    # Any file is a picture to search for, whatever it is called; words too long for a file's name are still words.
    shutil.copy("pictures/number 2.png", "IMG_1")
    code, lines, err = run("search", "index", "IMG_1", "-k", 1)
    assert code == 0 and "nearest to the picture IMG_1" in err
    assert lines[1] == "  1   1.000  pictures/number 2.png"
    code, _, err = run("search", "index", "a boat " * 50)
    assert code == 2 and "context_length" in err

    # What is gone since is said, and its place on the sheet stays.
    (here / "pictures" / "new.png").unlink()
    code, _, err = run("search", "index", "a red boat", "--sheet", "found.png")
    assert code == 0 and "not on the sheet: " in err and "new.png: [Errno 2]" in err


def test_what_goes_wrong_is_one_sentence_and_leaves_nothing(run, tmp_path):
    (tmp_path / "copy" / "empty").mkdir()
    draw("pictures.png", 1)
    before = sorted(path.name for path in (tmp_path / "copy").iterdir())

    def refused(*arguments):
        code, lines, err = run(*arguments)
        assert (code, lines, err.count("\n")) == (2, [], 1), err
        assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == before
        return err

    assert "no pictures in empty" in refused("embed", "empty", "--index", "new")
    assert "none" in refused("embed", "none", "--index", "new")
    assert "'other'" in refused("embed", "pictures", "--index", "new", "--model", "other")
    assert "no folder pictures.png" in refused("embed", "pictures", "--index", "pictures.png/new")
    assert "not mini" in refused("embed", "pictures", "--index", "index", "--model", "mini")
    assert "no index of pictures at new" in refused("search", "new", "a boat")
    assert "at least 1, not 0" in refused("search", "index", "a boat", "-k", 0)
    assert "query is empty" in refused("search", "index", "")
    assert "pictures is a folder; give words" in refused("search", "index", "./pictures")
    assert "No such file or directory: 'nothing.jpg'" in refused("search", "index", "nothing.jpg")
    assert "cannot identify image file" in refused("search", "index", "pictures/bro\nken.jpg")
    assert "does not end like a picture" in refused("search", "index", "a boat", "--sheet", "found.txt")


@pytest.mark.slow
def test_killed_or_interrupted_it_goes_on_where_it_was(model, tmp_path):
    folder, index = tmp_path / "pictures", tmp_path / "index"
    folder.mkdir()
    for number in range(2000):
        draw(folder / f"{number:04}.png", number)
    script = (
        "import sys\n"
        "from maquette.__main__ import main\n"
        "from maquette.search import update as index_update\n"
        "index_update._PICTURES = 8\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = [sys.executable, "-c", script, "embed", folder, "--index", index, "--model", model]
    for stop, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = len(PictureIndex.open(index))
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(PictureIndex.open(index)) < before + 16:
            time.sleep(0.02)
        process.send_signal(stop)
        err = process.communicate()[1]
        assert process.returncode == code, err
    done = len(PictureIndex.open(index))
    assert 32 <= done < 2000 and f"stopped with {done} pictures in {index}" in err
    found = PictureIndex.open(index)
    update = found.update(folder)
    assert (update.unchanged, len(found), len(found.search("a cat", 9999))) == (done, 2000, 2000)
