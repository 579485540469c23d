"""The index of a folder's pictures: what it finds, and that it is always the folder's, whatever happened to either."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from maquette.search import update as index_update
from maquette.search.picture_index import PictureIndex
from PIL import Image, UnidentifiedImageError
from tiny_models import tiny_clip


@pytest.fixture(scope="module")
def model():
    return tiny_clip()


def draw(path, number):
    """A picture of its own for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((40, 30), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        draw(tmp_path / "pictures" / ("sub" if number % 2 else "") / f"it's {number}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def index(tmp_path, folder, model):
    index = PictureIndex.open(tmp_path / "index", model)
    index.update(folder)
    return index


def names(hits):
    return [hit.path.name for hit in hits]


def test_a_picture_finds_itself_and_words_find_what_the_model_says(index, folder, model):
    pictures = sorted(folder.rglob("*.png"))
    for path in pictures:
        hit = index.search(path, k=1)[0]
        assert hit.path == path.resolve() and hit.score == pytest.approx(1, abs=1e-4)
    assert index.search(Image.open(pictures[2]), k=1)[0].path == pictures[2].resolve()

    products = (model.embed_images(pictures) @ model.embed_texts(["a red chair"])[0]).tolist()
    hits = index.search("a red chair", k=99)
    assert [hit.score for hit in hits] == pytest.approx(sorted(products, reverse=True), abs=1e-4)
    assert index.search("a red chair", k=3) == hits[:3]


def test_only_what_changed_is_embedded(index, folder):
    again = index.update(folder)
    assert (again.unchanged, again.embedded, str(again)) == (
        6, 0, "0 new, 0 changed, 6 unchanged, 0 removed, 0 skipped",
    )  # fmt: skip

    draw(folder / "it's 0.png", 50)
    draw(folder / "new.JPG", 51)
    os.utime(folder / "it's 2.png", (1, 1))
    (folder / "it's 4.png").rename(folder / "elsewhere.png")
    shutil.copy(folder / "sub" / "it's 1.png", folder / "copy.png")
    (folder / "sub" / "it's 3.png").unlink()
    update = index.update(folder)
    assert update.embedded == 2  # the changed and the new one; the others' content is known
    assert str(update) == "2 new, 1 changed, 1 moved, 3 unchanged, 1 removed, 0 skipped"
    assert names(index.search(folder / "elsewhere.png", k=1)) == ["elsewhere.png"]
    assert index.search(folder / "it's 0.png", k=1)[0].score == pytest.approx(1, abs=1e-4)
    assert len(index) == 7


def test_broken_pictures_are_reported_each_time_and_tried_once(index, folder, monkeypatch):
    (folder / "broken.png").write_bytes(b"no picture")
    whole = (folder / "it's 0.png").read_bytes()
    (folder / "it's 0.png").write_bytes(whole[:80])
    (folder / "gone.png").symlink_to("nowhere")
    first = index.update(folder)
    assert [path for path, _ in first.skipped] == ["broken.png", "gone.png", "it's 0.png"]
    assert first.skipped[0][1].startswith("not a picture")
    assert len(index) == 5 and "it's 0.png" not in names(index.search("a cat"))

    monkeypatch.setattr("maquette.clip.preprocess.open_picture", None)  # nothing is opened
    assert index.update(folder).skipped == first.skipped
    monkeypatch.undo()
    (folder / "it's 0.png").write_bytes(whole)
    mended = index.update(folder)
    assert (len(mended.skipped), mended.changed, mended.unchanged, len(index)) == (2, 1, 5, 6)


def test_links_are_followed_once_and_hidden_or_odd_files_left_out(folder, tmp_path, model):
    draw(tmp_path / "far" / "away.png", 20)
    (folder / "sub" / "far").symlink_to(tmp_path / "far")
    (folder / "sub" / "circle").symlink_to(folder)
    draw(folder / ".thumbnails" / "small.png", 21)
    draw(folder / "._hidden.png", 22)
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.txt").write_text("no picture")
    with open(os.path.join(os.fsencode(folder), b"r\xf6t.png"), "wb") as file:
        file.write(b"")
    update = PictureIndex.open(tmp_path / "index", model).update(folder)
    assert update.new == 7
    assert update.skipped == [("r?t.png", "its name is not UTF-8; rename it")]


def test_the_folder_and_its_index_move_together(index, folder, tmp_path, model):
    (tmp_path / "moved").mkdir()
    for path in (folder, index.path):
        path.rename(tmp_path / "moved" / path.name)
    moved = PictureIndex.open(tmp_path / "moved" / "index", model)
    new = tmp_path / "moved" / "pictures" / "it's 0.png"
    assert moved.search(new, k=1)[0].path == new.resolve()
    assert moved.update(new.parent).unchanged == 6

    # Where only the index moves, the pictures are still where they were.
    (tmp_path / "moved" / "index").rename(tmp_path / "index")
    assert PictureIndex.open(tmp_path / "index", model).search(new, k=1)[0].path == new.resolve()


NAMES = ["a.png", "b'.png", "sub/c.png", "sub/ü \\ %.png"]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["draw", "break", "delete", "move", "swap", "touch", "update"]),
        st.sampled_from(NAMES),
        st.integers(0, 3),
    ),
    max_size=25,
)
# The first batch overwrites the row from which the second would take its vector.
SWAPPED = [
    *(("draw", name, number) for number, name in enumerate(NAMES)),
    ("update", NAMES[0], 0), ("touch", NAMES[1], 0), ("swap", NAMES[0], 2),
]  # fmt: skip


@settings(max_examples=12, deadline=None)
@example(SWAPPED)
@given(OPERATIONS)
def test_after_any_changes_the_index_is_that_of_the_folder(model, operations):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_update, "_PICTURES", 2)
        patch.setattr(index_update, "_FILES", 3)
        folder = Path(place) / "pictures"
        draw(folder / "always.png", 99)
        index = PictureIndex.open(Path(place) / "index", model)
        for clock, (what, name, number) in enumerate(operations, start=1):
            path = folder / name
            if what == "draw":
                draw(path, number)
            elif what == "break":
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"broken" * (number + 1))
            elif what == "update":
                index.update(folder)
            elif path.exists():
                if what == "delete":
                    path.unlink()
                elif what == "move":
                    path.rename(folder / f"moved{number}.png")
                elif what == "swap" and (other := folder / NAMES[number]).exists() and other != path:
                    path.rename(folder / "aside")
                    other.rename(path)
                    (folder / "aside").rename(other)
            if path.exists():
                os.utime(
                    path, (clock, clock)
                )  # changes faster than the file system's clock are not asked for
        update = index.update(folder)

        there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png")}
        broken = {name for name, path in there.items() if path.read_bytes().startswith(b"broken")}
        assert {name for name, _ in update.skipped} == broken
        whole = sorted(there.keys() - broken)
        expected = dict(zip(whole, model.embed_images([there[name] for name in whole]), strict=True))
        hits = {
            hit.path.relative_to(folder.resolve()).as_posix(): hit.score for hit in index.search("a cat", 99)
        }
        assert sorted(hits) == whole and len(index) == len(whole)
        words = model.embed_texts(["a cat"])[0]
        assert hits == pytest.approx(
            {name: float(vector @ words) for name, vector in expected.items()}, abs=1e-4
        )


def test_what_cannot_be_is_one_sentence_and_leaves_nothing(index, folder, tmp_path, model):
    def refused(words, do, kind=ValueError):
        with pytest.raises(kind, match=words):
            do()

    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    other, new = tmp_path / "other", PictureIndex.open(tmp_path / "new", model)
    refused("no pictures in", lambda: new.update(tmp_path / "empty"))
    refused("none", lambda: new.update(tmp_path / "none"), FileNotFoundError)
    refused("file", lambda: new.update(tmp_path / "file"), NotADirectoryError)
    refused("no index of pictures at", lambda: new.search("a cat"), FileNotFoundError)
    refused("there is no folder", lambda: PictureIndex.open(other / "a", model).update(folder), OSError)
    assert not other.exists() and not new.path.exists() and len(new) == 0

    refused("is a folder, and an index is a file", lambda: PictureIndex.open(folder))
    refused("made with tiny, not mini", lambda: PictureIndex.open(index.path, "mini"))
    refused("at least 1, not 0", lambda: index.search("a cat", 0))
    refused("query is empty", lambda: index.search(" \n"))
    refused("context_length", lambda: index.search("a cat " * 40))
    refused("cannot identify image", lambda: index.search(tmp_path / "file"), UnidentifiedImageError)
    # An unmounted disk looks like an empty folder, and somebody else's folder like a wholly changed one.
    draw(tmp_path / "others" / "picture.png", 1)
    refused("is of the pictures in", lambda: index.update(tmp_path / "others"))
    folder.rename(tmp_path / "away")
    folder.mkdir()
    refused("no pictures in", lambda: index.update(folder))
    assert len(index) == 6


def test_other_weights_under_the_same_name_are_refused(index, tmp_path):
    other = tiny_clip()
    with torch.no_grad():
        for parameter in other.encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 5)
    with pytest.raises(ValueError, match="other weights than that had"):
        PictureIndex.open(index.path, other).search("a cat")


def test_a_reader_sees_what_another_writes(index, folder, model):
    reader = PictureIndex.open(index.path, model)
    reader.search("a cat")
    draw(folder / "new.png", 30)
    index.update(folder)
    assert names(reader.search(folder / "new.png", k=1)) == ["new.png"]
    assert PictureIndex.open(index.path, model).update(folder).unchanged == len(reader) == 7


def test_other_files_are_no_index_and_stay_as_they_are(tmp_path, model):
    (tmp_path / "text").write_text("somebody's notes, longer than the header of a database" * 9)
    with closing(sqlite3.connect(tmp_path / "database")) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    for name in ("text", "database"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match="is no index of pictures"):
            PictureIndex.open(tmp_path / name, model)
        assert (tmp_path / name).read_bytes() == before


def test_a_content_that_is_missing_is_embedded_again(index, folder):
    with closing(sqlite3.connect(index.path)) as database, database:
        database.execute("DELETE FROM pictures WHERE rowid < 3")
    assert len(index) == 4
    assert index.update(folder).embedded == 2 and len(index) == 6


def test_an_index_of_another_version_is_refused(index):
    with closing(sqlite3.connect(index.path)) as database:
        database.execute("PRAGMA user_version = 1")
    with pytest.raises(ValueError, match="another version"):
        PictureIndex.open(index.path)
