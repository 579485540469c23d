"""What is written is whole or absent."""

import subprocess
import sys

import pytest
from maquette.weights.model_folder import read_index, save_into, write_model_folder
from maquette.weights.write_whole import sweep, write_whole
from tiny_models import tiny_tokenizer


def test_a_file_takes_the_place_of_what_was_there(tmp_path):
    target = tmp_path / "picture.png"
    target.write_text("old")
    with write_whole(target) as beside:
        beside.write_text("new")
        assert beside.suffix == ".png" and target.read_text() == "old"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_a_folder_takes_the_place_of_what_was_there(tmp_path):
    for content in ("old", "new"):
        with write_whole(tmp_path / "model") as beside:
            (beside / "part").mkdir(parents=True)
            (beside / "part" / content).write_text(content)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "part", "new"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, OSError])
def test_nothing_is_left_of_what_was_stopped(tmp_path, stop):
    with pytest.raises(stop), write_whole(tmp_path / "a.txt") as beside:
        beside.write_text("half")
        raise stop
    assert not list(tmp_path.iterdir())


KILLED = """
import os, shutil, sys
from maquette.weights.write_whole import write_whole
shutil.rmtree = lambda path: os._exit(0)  # killed as it deletes what was there before
with write_whole(sys.argv[1]) as beside:
    beside.mkdir()
    if sys.argv[2] == "at once":
        os._exit(0)
"""


@pytest.mark.parametrize("name", ["model", "glide-1.5", ".hidden"])
def test_what_killed_processes_had_begun_is_swept_and_nothing_else(tmp_path, name):
    target = tmp_path / name
    stem, suffix = target.stem, target.suffix
    target.mkdir()
    others = [
        f".{name}.lock",
        f"{stem}.5.partial{suffix}",
        f".{stem}.5.6.partial{suffix}",
        f".{stem}.5.partial{suffix}.5",
        f".{name}.5.6.old",
        f".{name}2.5.old",
        f".more-{name}.5.old",
    ]
    for other in others:
        (tmp_path / other).write_text("")
    for moment in ("at once", "at the end"):
        subprocess.run([sys.executable, "-c", KILLED, str(target), moment])
        assert len(list(tmp_path.iterdir())) == len(others) + 2
        sweep(target)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, name])


def test_of_several_targets_all_is_swept(tmp_path):
    for name in (".step-01.5.partial", ".step-02.5.old", ".other.5.partial"):
        (tmp_path / name).mkdir()
    sweep(tmp_path / "step-*")
    assert [path.name for path in tmp_path.iterdir()] == [".other.5.partial"]
    sweep(tmp_path / "absent" / "step-*")


def test_a_model_is_written_again_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    parts = {"tokenizer": tiny_tokenizer(), "clip_tokenizer": tiny_tokenizer()}
    write_model_folder(folder, "GlidePipeline", parts, {"schedule": "linear"})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.copytree", stop)
        save_into(folder, folder, "", {"tokenizer": tiny_tokenizer()}, {}, {})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    save_into(folder, folder, "", {"tokenizer": tiny_tokenizer()}, {}, {"schedule": "cosine"})
    assert {path for path in folder.rglob("*") if path.is_file()} == before.keys()
    index = read_index(folder)
    assert index["schedule"] == "cosine" and index["clip_tokenizer"] == index["tokenizer"]
