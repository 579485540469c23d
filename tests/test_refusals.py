"""Input that no one means, through the command line: one sentence, exit code 2, and nothing done."""

import os

import pytest
from maquette.commands.cli import run
from maquette.diffusion import GlideUNet
from maquette.pipelines.request import check_drawing, check_request
from maquette.training import Shards, TrainConfig
from tiny_models import tiny_clip


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refuse(*arguments):
        before = sorted(os.listdir())
        assert run([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1 and not said.out and sorted(os.listdir()) == before
        return said.err

    return refuse


def test_a_folder_that_cannot_be_made_is_noticed_before_weights_are_read(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "file cannot be written to" in refused("convert", "none.pt", "--out", tmp_path / "file" / "model")


def test_more_scenes_than_the_disk_holds(refused):
    sentence = refused("toybox", "--count", 10**12, "--out", "data")
    assert "1,000,000,000,000 scenes take about 8" in sentence and "GB free" in sentence
    assert "at most 6,103 scenes" in refused("toybox", "--count", 10**9, "--sheet", "sheet.png")


@pytest.mark.parametrize(
    "braces", ["x-{0..99999999999}.tar", "{0..999}{0..999}{a..z}.tar", "{a,b{0..99999999}}.tar"]
)
def test_more_shards_than_anyone_has(braces):
    with pytest.raises(ValueError, match="more than 1,000,000 shards"):
        Shards(braces)


def test_shards_that_many_braces_name_are_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shard or folder .*/a/0001\.tar"):
        Shards(f"{tmp_path}/{{a/{{0001..0999}},b/{{c,d}}{{9..0..3}}}}.tar")
    with pytest.raises(FileNotFoundError, match=r"no shard or folder .*/0\.tar"):
        Shards(f"{tmp_path}/{{0..90000000..10000000}}.tar")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe.png is a pipe" in refused("classify", "pipe.png", "--labels", "a, b")
    assert "pipe.png is a pipe" in refused("embed", tmp_path, "--index", "pipe.png")


def test_a_cache_in_the_home_of_nobody(refused, monkeypatch):
    monkeypatch.setenv("MAQUETTE_CACHE", "~nouser/x")
    assert "there is no such home folder" in refused("models")


def test_a_model_for_something_else_says_what_it_is_for(refused):
    assert "point-e is for image-to-3d" in refused("create", "a cat", "--model", "point-e")
    assert "for text-to-image there are mini, glide" in refused("create", "a cat", "--model", "ViT-B/32")


def test_a_recipe_of_brackets(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: " + "[" * 2_000)
    with pytest.raises(RecursionError, match=r"recipe\.yaml is no recipe"):
        TrainConfig.from_file(tmp_path / "recipe.yaml")


def test_a_network_without_levels():
    with pytest.raises(ValueError, match="channel_mult is empty"):
        GlideUNet(channel_mult=[])


def test_numbers_that_are_none():
    for numbers in ({"count": True}, {"guidance_scale": 1e30}, {"guidance_scale": True}, {"steps": True}):
        with pytest.raises(ValueError, match=r"must be a (whole )?number"):
            check_request("a red chair", **numbers)
    with pytest.raises(ValueError, match="from -1000 to 1000"):
        check_drawing(clip_guidance_scale=-1e30)


def test_no_texts():
    with pytest.raises(TypeError):
        tiny_clip().embed_texts(None)  # pyright: ignore[reportArgumentType]
