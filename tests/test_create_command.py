"""`maquette create` and the other commands: files, exit codes, and one sentence for everything that goes wrong."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from maquette.__main__ import main
from maquette.pipelines.picture_files import free_name
from PIL import Image
from tiny_models import tiny_glide


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_glide().save_pretrained(folder)
    return folder


@pytest.fixture
def create(model, tmp_path, monkeypatch, capsys):
    """create("a cat", "-n", 2) in an empty folder -> (exit code, lines printed, what went to standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model=model):
        code = main(["create", *map(str, arguments), "--model", str(model)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_carries_its_settings(create, model, tmp_path):
    code, lines, _ = create("A “röd”  chair!", "--seed", 5, "--guidance", 2, "--steps", 2)
    assert (code, lines) == (0, [str(tmp_path / "a-röd-chair.png")])
    picture = Image.open(lines[0])
    assert picture.size == (16, 16)
    assert picture.text == {
        "prompt": "A “röd”  chair!",
        "seed": "5",
        "model": str(model),
        "steps": "2",
        "guidance": "2.0",
        "version": picture.text["version"],
    }
    assert picture.text["version"].startswith("maquette 0.")


def test_a_photo_to_begin_with_and_what_else_was_asked_for_stand_in_the_settings(create, model, tmp_path):
    photo = tmp_path.with_name(f"{tmp_path.name}.jpg")
    Image.new("RGB", (40, 20), "red").save(photo)
    asked = ["--from", photo, "--strength", 0.5, "--preset", "original", "--size", 8, "--steps", 4]
    assert "say which one guides" in create("a cat", *asked, "--clip-guidance", 2)[2]
    code, lines, err = create("a cat", *asked, "--clip-guidance", 2, "--clip", "mini")
    assert code == 0 and "2/2" in err
    picture = Image.open(lines[0])
    said = {"from": photo.name, "strength": "0.5", "preset": "original", "size": "8", "clip_guidance": "2.0"}
    assert picture.size == (8, 8) and picture.text.items() >= {**said, "guidance": "3.0"}.items()


def test_what_was_drawn_before_a_failure_is_kept(create, tmp_path, monkeypatch):
    from maquette.pipelines import glide_stages

    monkeypatch.setattr(glide_stages, "BATCH", 2)
    sample, calls = glide_stages.sample, []

    def failing(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError("not enough memory")
        return sample(*arguments, **more)

    monkeypatch.setattr(glide_stages, "sample", failing)
    code, lines, err = create("a cat", "-n", 4, "--steps", 1)
    assert code == 2 and err.splitlines()[-1] == "maquette: not enough memory"
    assert (
        [os.path.basename(line) for line in lines]
        == ["a-cat-seed0.png", "a-cat-seed1.png"]
        == files(tmp_path)
    )


def test_best_of_keeps_what_clip_scores_highest(create, tmp_path):
    code, lines, err = create("a red chair", "--best-of", 4, "-n", 2, "--seed", 3, "-o", "best.png")
    scores = {
        int(seed): float(score) for seed, score in re.findall(r"seed (\d+): CLIP score (-?[\d.]+)", err)
    }
    assert code == 0 and sorted(scores) == [3, 4, 5, 6]
    order = sorted(scores, key=lambda seed: -scores[seed])
    first, second = order[:2]
    assert err.count("kept") == 2
    assert [os.path.basename(line) for line in lines] == [
        f"best-seed{first}.png", f"best-seed{second}.png", "best.png",
    ]  # fmt: skip
    kept = Image.open(lines[0])
    assert float(kept.text["clip_score"]) == pytest.approx(scores[first], abs=6e-4)
    assert "clip_score" not in Image.open(lines[2]).text
    create("a red chair", "--seed", first, "-o", "alone.png")
    assert np.abs(np.asarray(kept, int) - np.asarray(Image.open(tmp_path / "alone.png"), int)).max() <= 1


def test_several_pictures_make_a_sheet_and_stand_beside_it(create, tmp_path):
    code, lines, err = create("a cat", "-n", 3, "--seed", 4)
    assert code == 0 and "3/3" in err
    assert [os.path.basename(line) for line in lines] == [
        "a-cat-seed4.png", "a-cat-seed5.png", "a-cat-seed6.png", "a-cat.png",
    ]  # fmt: skip
    sheet, one = Image.open(lines[3]), Image.open(lines[0])
    assert sheet.text["seed"] == "4 to 6"
    # Two in a row, small ones enlarged, and room for words under each.
    assert sheet.width > 2 * max(128, one.width) and sheet.height > sheet.width
    create("a cat", "--seed", 5)
    assert len(files(tmp_path)) == 5
    again = tmp_path / "a-cat-2.png"
    assert Image.open(again).text == Image.open(lines[1]).text


def test_a_name_is_free_if_no_file_of_its_kind_has_it(tmp_path):
    (tmp_path / "a-chair.ply").touch()
    assert free_name("a chair", tmp_path, ".glb").name == "a-chair.glb"
    (tmp_path / "A-Chair.glb").touch()
    assert free_name("a chair", tmp_path, ".glb").name == "a-chair-2.glb"


def test_a_named_file_is_written_as_what_its_suffix_says(create, tmp_path):
    (tmp_path / "cat.JPG").write_bytes(b"old")
    code, lines, _ = create("a cat", "-o", "cat.JPG")
    assert (code, lines, files(tmp_path)) == (0, [str(tmp_path / "cat.JPG")], ["cat.JPG"])
    assert Image.open(lines[0]).format == "JPEG"


@pytest.mark.parametrize("prompt", ["🦄", "../../etc/passwd", "con", "x" * 300, "\udcff", "-", "a\nb\tc"])
def test_any_prompt_gives_a_file_here(create, tmp_path, prompt):
    code, lines, _ = create(prompt, "--steps", 1)
    assert code == 0
    assert os.path.dirname(lines[0]) == str(tmp_path)
    assert files(tmp_path) == [os.path.basename(lines[0])]


def test_a_long_prompt_warns_once(create, tmp_path):
    code, lines, err = create("elephant " * 1112, "-n", 17, "--steps", 1)
    assert code == 0 and len(lines) == 18
    assert err.count("warning: the prompt is longer than the 8 tokens") == 1
    assert "at the word 'elephant'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "prompt is empty"),
        (["  "], "prompt is empty"),
        ([], "Missing argument 'prompt'"),
        (["a", "chair"], "unexpected extra argument"),
        (["a cat", "--steps", "0"], "from 1 to 1000, not 0"),
        (["a cat", "--steps", "x"], "--steps"),
        (["a cat", "--guidance", "x"], "--guidance"),
        (
            ["a cat", "--guidance", "nan"],
            "guidance scale must be a number from -1000 to 1000 such as 3.0, not nan",
        ),
        (["a cat", "--guidance", "inf"], "not inf"),
        (["a cat", "-n", "0"], "from 1 to 10000, not 0"),
        (["a cat", "--seed", "-1"], "from 0 to"),
        (["a cat", "-o", "cat.txt"], "expected one of .png, .jpg, .jpeg, .webp"),
        (["a cat", "-o", "cat"], "does not end like a picture"),
        (["a cat", "-o", "."], ". is a folder"),
        (["a cat", "-o", "nowhere/cat.png"], "the folder nowhere does not exist"),
        (["a cat", "-o", "/proc/cat.png"], "the folder /proc cannot be written to"),
        (["a cat", "--colour", "red"], "No such option"),
        (["a cat", "--size", "30"], "a multiple of 4, such as 32, not 30"),
        (["a cat", "--size", "64"], "no upsampler and draws 16 px, not 64"),
        (["a cat", "--preset", "fast"], "known are default, original"),
        (["a cat", "--strength", "0.5"], "there is no photo"),
        (["a cat", "--from", "nowhere.png"], "No such file or directory: 'nowhere.png'"),
        (["a cat", "--from", __file__], "cannot identify image file"),
        (["a cat", "--from", __file__, "--strength", "2"], "at most 1 (all drawn anew), not 2.0"),
        (["a cat", "--clip", "mini"], "such as --clip-guidance 1"),
        (["a cat", "-o", "c" * 240 + ".png"], "is too long"),
    ],
)
def test_bad_arguments_are_one_sentence_and_no_file(create, tmp_path, arguments, message):
    assert_refused(create(*arguments), tmp_path, message)


def test_unknown_models_are_named_with_the_nearest(create, tmp_path):
    assert_refused(
        create("a cat", model="mimi"), tmp_path, "did you mean 'mini'?); known are mini, glide, kakaobrain/"
    )
    assert_refused(create("a cat", model="./nowhere"), tmp_path, "no model folder ./nowhere")


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json", "tokenizer/tokenizer.json"]
)
@pytest.mark.parametrize("kept", [None, 0, 0.5, -1])
def test_missing_and_truncated_model_files_are_one_sentence(create, model, tmp_path, name, kept):
    broken = tmp_path.with_name(f"{tmp_path.name}-model")
    shutil.copytree(model, broken)
    content = (broken / name).read_bytes()
    (broken / name).unlink()
    if kept is not None:
        (broken / name).write_bytes(content[: int(len(content) * kept) if kept >= 0 else -20])
    code, lines, err = create("a cat", model=broken)
    _, _, said = err.partition("\n")
    assert (code, lines, files(tmp_path)) == (2, [], [])
    assert (
        str(broken / os.path.dirname(name)) in said
        and said.count("\n") == 1
        and said.startswith("maquette: ")
    )


def assert_refused(result, folder, message):
    code, lines, err = result
    *before, said = err.splitlines()
    assert (code, lines) == (2, [])
    assert message in said and said.startswith("maquette: ") and all("loading" in line for line in before)
    assert files(folder) == []


def test_a_full_disk_leaves_nothing(create, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        code, lines, err = create("a cat", "-n", 2, "--steps", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, lines, files(tmp_path)) == (2, [], [])
    assert err.splitlines()[-1].startswith("maquette: [Errno 27]")


def test_words_that_toybox_lacks_are_hinted_at():
    from maquette.pipelines.toybox_words import toybox_hint
    from maquette.toybox import make_scene

    assert all(toybox_hint(make_scene("train", i).caption) is None for i in range(200))
    assert "'dragon', 'fire'" in toybox_hint("a red dragon, a Chair; FIRE dragon")
    assert "only knows Toybox" in toybox_hint("🦄")


@pytest.mark.parametrize("moment", ["loading", pytest.param("drawing", marks=pytest.mark.slow)])
def test_interrupting_leaves_no_file_and_no_traceback(model, tmp_path, moment):
    command = [sys.executable, "-m", "maquette", "create", "a cat", "--steps", "1000", "--model", str(model)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    os.set_blocking(process.stderr.fileno(), False)
    seen, deadline = b"", time.monotonic() + 120
    while moment.encode() not in seen and time.monotonic() < deadline:
        time.sleep(0.1)
        seen += process.stderr.read() or b""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, files(tmp_path)) == (130, b"", [])
    assert b"Traceback" not in seen + err
