"""Labels, templates and labelled pictures: what is read from where, and one sentence for what is wrong."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.clip import ClipModel, templates
from maquette.clip.evaluation.labelled_pictures import read_captioned, read_labelled
from maquette.clip.picture_sources import embed_sources, picture_among, pictures_in, try_open
from maquette.commands.bars import bar_lines
from PIL import Image
from rich.cells import cell_len
from tiny_models import tiny_clip


def test_imagenets_words_are_openais():
    assert (len(templates.imagenet_classes()), templates.imagenet_classes()[0]) == (1000, "tench")
    openais, simple = (templates.named_templates(name) for name in templates.TEMPLATE_SETS)
    assert (len(openais), openais[0], len(simple)) == (80, "a bad photo of a {}.", 7)


def test_a_broken_picture_is_skipped_by_its_name(tmp_path):
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 99).save(noise, "png")
    pictures = {"0.png": picture(0), "1.png": noise.getvalue()[:-900], "2.png": b"no picture"}
    shard = write_tar(tmp_path / "some.tar", pictures | {f"{i}.cls": b"cat" for i in range(3)})
    model = ClipModel.from_pretrained("mini")
    embedded = embed_sources(model, [*read_labelled(shard).pictures, tmp_path / "nowhere.png"])
    assert embedded.kept == [0] and embedded.vectors.shape == (1, model.dim)
    damaged, no_picture, nowhere = (said for _, said in embedded.skipped)
    assert damaged.startswith(f"{shard}: 1.png: ") and no_picture == f"{shard}: 2.png: not a picture"
    assert nowhere.startswith(f"{tmp_path / 'nowhere.png'}: ")
    with pytest.raises(ValueError, match=r"some\.tar: 1\.png: .*none of the 2 pictures can be read"):
        embed_sources(model, read_labelled(shard).pictures[1:])


def test_words_come_from_names_files_and_the_line_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words").write_bytes("\ufeffred  chair\n\n Blau\r\n".encode())
    (tmp_path / "sentences.txt").write_text("a {}\nthe {} here\n")
    assert templates.read_labels("words") == ("red chair", "Blau")
    assert templates.read_labels(" a cat , dog") == ("a cat", "dog")
    assert len(templates.read_labels("imagenet")) == 998
    assert templates.read_templates("sentences.txt") == ("a {}", "the {} here")
    assert templates.read_templates("the {}, drawn") == ("the {}, drawn",)
    assert templates.read_templates(None) == ("a photo of a {}",)
    for name in templates.TEMPLATE_SETS:
        assert templates.check_templates(templates.read_templates(name)) == templates.named_templates(name)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "there are no labels"),
        (["cat", " "], "label 2 is blank"),
        (["red cat", "dog", " red  cat"], "the label 'red cat' is there twice"),
        (["cat", 3], "label 2 is 3, not a text"),
        ("cat", "must be a list of texts"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        templates.check_labels(labels)


@pytest.mark.parametrize("wrong", ["a photo", "{} and {}", "", "{", 3])
def test_a_template_has_one_place_for_the_label(wrong):
    with pytest.raises(ValueError, match=r"needs exactly one {} where the label goes"):
        templates.check_templates(["a {}", wrong])


@pytest.mark.parametrize(
    ("read", "which", "message"),
    [
        (templates.read_labels, "", "there are no labels"),
        (templates.read_labels, "a,,b", "label 2 is blank"),
        (templates.read_labels, "nowhere.txt", "there is no file nowhere.txt"),
        (templates.read_labels, "folder", "folder"),
        (templates.read_labels, "empty", "empty is empty"),
        (templates.read_labels, "binary", "utf-8"),
        (templates.read_templates, "imagenett", "there are no templates 'imagenett'"),
        (templates.read_templates, "plain", "the template 'a cat' needs exactly one"),
    ],
)
def test_words_that_cannot_be_read_are_one_sentence(tmp_path, monkeypatch, read, which, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff\x00")
    (tmp_path / "plain").write_text("a {}\na cat\n")
    with pytest.raises((ValueError, OSError), match=message):
        read(which)


def picture(value, format="png"):
    """The bytes of a grey picture."""
    content = io.BytesIO()
    Image.new("L", (8, 8), value).save(content, format)
    return content.getvalue()


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_a_folder_of_classes_is_read_in_the_order_of_its_names(tmp_path):
    for name in (
        "dog/b.PNG",
        "dog/deep/c.jpg",
        "red_cat/a.png",
        "dog/._b.png",
        "dog/notes.txt",
        ".git/x.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(0))
    data = read_labelled(tmp_path)
    assert data.labels == ("dog", "red cat")
    assert [(path.name, target) for path, target in zip(data.pictures, data.targets, strict=True)] == [
        ("b.PNG", 0), ("c.jpg", 0), ("a.png", 1),
    ]  # fmt: skip
    assert read_labelled(tmp_path, ["hound", "hound"]).labels == ("hound", "hound")
    turned = read_labelled(tmp_path, ["red cat", "dog"])
    assert (turned.labels, turned.targets) == (("red cat", "dog"), [1, 1, 0])
    assert [path.name for path in pictures_in(tmp_path / "dog")] == ["b.PNG"]
    for folder, labels, message in (
        (tmp_path, ["one"], "2 sub-folders, but there are 1 labels"),
        (tmp_path / "red_cat", None, "has no sub-folders"),
        (tmp_path / "nowhere", None, "there is no shard or folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_labelled(folder, labels)


def test_shards_give_labels_by_number_by_word_and_captions(tmp_path):
    numbered = {"0.png": picture(0), "0.cls": b"1\n", "1.cls": b"0", "1.jpg": picture(200, "jpeg")}
    write_tar(tmp_path / "n-0.tar", numbered)
    write_tar(tmp_path / "n-1.tar", {"2.png": picture(90), "2.cls": b"1"})
    data = read_labelled(str(tmp_path / "n-{0..1}.tar"), ["cat", "dog"])
    assert (list(data.targets), data.labels) == ([1, 0, 1], ("cat", "dog"))
    assert read_labelled(tmp_path, ["cat", "dog"]) == data
    means = [np.asarray(try_open(each)).mean() for each in data.pictures]
    assert means == pytest.approx([0, 200, 90], abs=2)

    (tmp_path / "words").mkdir()
    samples = {"a.json": json.dumps({"label": "dog"}).encode(), "a.txt": b"not this", "b.txt": b" red\ncat"}
    shard = write_tar(tmp_path / "words/w.tar", {"a.png": picture(0), "b.png": picture(0), **samples})
    assert read_labelled(shard).labels == ("dog", "red cat") and read_labelled(shard).targets == [0, 1]
    assert read_labelled(shard, ["red cat", "bird", "dog"]).targets == [2, 0]
    assert read_captioned(shard)[1] == ["not this", "red\ncat"]


@pytest.mark.parametrize(
    ("files", "labels", "message"),
    [
        ({"0.png": b"", "0.cls": b"1"}, None, "are numbers; give their names"),
        ({"0.png": b"", "0.cls": b"2"}, ["a", "b"], "has the label 2, but the 2 names end at 1"),
        ({"0.png": b"", "0.cls": b"cat"}, ["a", "b"], "has the label 'cat', which is not among the 2 given"),
        ({"0.png": b""}, None, "0.png has no label"),
        ({"0.txt": b"cat"}, None, "holds no pictures"),
        (None, None, "some.tar is damaged"),
    ],
)
def test_shards_that_do_not_say_what_they_show(tmp_path, files, labels, message):
    shard = tmp_path / "some.tar"
    shard.write_bytes(b"not a tar" * 100) if files is None else write_tar(shard, files)
    with pytest.raises(ValueError, match=message):
        read_labelled(shard, labels)


def test_a_shard_cut_between_its_samples_is_damaged(tmp_path):
    shard = write_tar(
        tmp_path / "some.tar", {f"{i}.{kind}": b"a" for i in range(4) for kind in ("png", "cls")}
    )
    content = Path(shard).read_bytes()
    Path(shard).write_bytes(content[: 4 * 1024])  # a header and a block of content for each file
    with pytest.raises(ValueError, match=r"is damaged at .*ends too early"):
        read_labelled(shard)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_bars_keep_to_the_width_and_stand_in_line(width, unicode):
    names = ("cat", "a rather long label with many words in it", "赤い椅子" * 9, "bad\x1b[31m\udcff")
    lines = list(bar_lines([{"label": name, "score": 0.25} for name in names], width, unicode))
    assert max(map(cell_len, lines)) <= width
    assert len({cell_len(line[: line.index("%")]) for line in lines}) == 1
    assert "\x1b" not in "".join(lines)
    (bar,) = {line.partition("%")[2].strip() for line in lines}
    assert set(bar) <= set("█▏▎▍▌▋▊▉" if unicode else "#")
    assert width < 40 or len(bar) >= 2


def test_a_file_has_the_vector_of_the_picture_in_it(tmp_path):
    """Whatever its mode: a palette is resized as such, as in open_clip."""
    model = tiny_clip()
    noise = Image.effect_noise((90, 70), 90).convert("RGB").rotate(30)
    for mode in ("P", "RGBA", "L"):
        noise.convert(mode).save(tmp_path / f"{mode}.png")
        path = tmp_path / f"{mode}.png"
        with Image.open(path) as picture:
            torch.testing.assert_close(embed_sources(model, [path]).vectors, model.embed_images([picture]))


def test_batches_have_a_picture_or_more():
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        tiny_clip().embed_images([], batch_size=0)


def test_the_picture_of_a_sample_is_no_mask():
    assert picture_among(["mask.png", "json", "jpg", "png"]) == "png"
    assert picture_among(["mask.png", "json"]) is None
