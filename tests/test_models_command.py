"""`maquette models` and `maquette download`."""

import hashlib
from pathlib import Path

import pytest
from loopback import Loopback, status
from maquette.__main__ import main
from maquette.weights import find_file
from maquette.weights.table import _table


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MAQUETTE_OFFLINE", raising=False)
    with Loopback(b"weights" * 300_000) as server:
        parts = {
            part: {
                "url": server.url + part,
                "sha256": hashlib.sha256(server.content).hexdigest(),
                "megabytes": 2,
            }
            for part in "ab"
        }
        entry = {"tasks": {"text-to-3d": ["a", "b"]}, "source": "https://example.org/tiny", "files": parts}
        monkeypatch.setitem(_table(), "tiny", entry)
        yield server


def rows(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    starts = [lines[0].index(word) for word in lines[0].split()]
    assert all(line[start - 1] == " " != line[start] for line in lines for start in starts[1:])
    return {line.split()[0]: line.split() for line in lines[1:]}


def test_models_are_listed_with_what_is_here(server, tmp_path, capsys):
    listed = rows(capsys)
    assert listed["mini"][-2] == "yes"
    assert 0 < int(listed["mini"][-4]) <= 80
    assert listed["ViT-L/14@336px"][1:6] == [
        "zero-shot-image-classification",
        "934",
        "MB",
        "no",
        "https://github.com/openai/CLIP",
    ]
    assert listed["tiny"][1:] == ["text-to-3d", "4", "MB", "no", "https://example.org/tiny"]
    first = _table()["tiny"]["files"]["a"]
    find_file(first["url"], first["sha256"])
    assert rows(capsys)["tiny"][4:7] == ["1", "of", "2"]


def test_download_prints_where_all_files_are(server, tmp_path, capsys):
    assert main(["download", "tiny"]) == 0
    places = capsys.readouterr().out.split()
    assert len(places) == 2 and all(Path(place).read_bytes() == server.content for place in places)
    assert rows(capsys)["tiny"][4] == "yes"
    assert main(["download", "mini"]) == 0 and "glide" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("VIT-B/33", "did you mean 'ViT-B/32'?"),
        ("ViT-B-32/nothing", "open_clip has no weights 'nothing' for ViT-B-32; known are ViT-B-32/openai"),
        ("hf-hub:name", "expected hf-hub:org/name"),
        ("tiny", "404 Not Found"),
    ],
)
def test_what_cannot_be_downloaded_is_one_sentence(server, tmp_path, capsys, name, said):
    server.faults = [status(404)]
    assert main(["download", name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert [path for path in (tmp_path / "cache").glob("*") if not path.name.startswith(".")] == []
