"""`maquette toybox` and `maquette train` reach what they promise, and refuse in one sentence."""

import pytest
import torch
from maquette.__main__ import main
from PIL import Image


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def command(line):
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_toybox_draws_a_sheet(run, tmp_path):
    code, out, _ = run("toybox --sheet look.png --split novel --count 2 --size 16")
    assert (code, out.strip()) == (0, str(tmp_path / "look.png"))
    assert Image.open(tmp_path / "look.png").width > 2 * 16


def test_toybox_writes_shards(run, tmp_path):
    code, out, _ = run("toybox --split val --count 2 --size 16 --out data")
    assert code == 0 and str(tmp_path / "data") in out
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["shard-00000.tar"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("toybox", "give either --out FOLDER"),
        ("toybox --out data --sheet look.png", "give either --out FOLDER"),
        ("toybox --out data", "--count 1000"),
        ("toybox --out data --count 0", "at least 1"),
        ("toybox --out data --count 2 --split test", "train, val, novel"),
        ("toybox --sheet look.txt", "does not end like a picture"),
        ("toybox --sheet look.png --things 2", "go with --out; leave them out"),
        ("train clay --config x.yaml --out runs", "unknown stage 'clay'; known are clip, glide"),
        ("train glide --config x.yaml --out runs", "x.yaml"),
        ("train glide --out runs", "--config"),
        ("sculpt", "No such command"),
    ],
)
def test_bad_arguments_are_one_sentence_and_no_file(run, tmp_path, line, message):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_library_says_which_file_it_is_about(run, tmp_path):
    torch.save({"a": torch.ones(9)}, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    code, out, err = run("convert w.pt --out m")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith("(while reading w.pt: if it is damaged, fetch or copy it again)\n")


def test_help_shows_defaults_and_debug(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "--debug" in run("--help")[1]
    said = run("create --help")[1]
    for default in ("0", "mini", "(the model's)", "(a new one named after the prompt)"):
        assert f"[default: {default}]" in said


def test_debug_shows_the_traceback(run):
    with pytest.raises(ValueError, match="give either --out FOLDER"):
        run("toybox --debug")


def test_interrupted_while_writing(run, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("maquette.toybox.shards.write_shards", interrupt)
    code, out, err = run("toybox --count 2 --out data")
    assert (code, out) == (130, "") and "Traceback" not in err
