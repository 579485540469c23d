import io
import json
import tarfile
from contextlib import nullcontext

import numpy as np
import pytest
import webdataset
from maquette.toybox import make_scene, render
from maquette.toybox import shards as room
from maquette.toybox.scenes import true_captions
from maquette.toybox.shards import write_shards
from maquette.toybox.sheet import contact_sheet, scene_sheet
from maquette.training import Shards
from PIL import Image


@pytest.fixture
def short_shards(monkeypatch):
    monkeypatch.setattr(room, "SCENES_PER_SHARD", 3)


def test_a_shard_holds_what_the_scenes_are(tmp_path, short_shards):
    paths = write_shards("novel", 5, tmp_path, size=32, clouds=True, workers=1)
    assert [path.name for path in paths] == ["shard-00000.tar", "shard-00001.tar"]
    samples = list(webdataset.WebDataset([str(path) for path in paths], shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"novel-{i:08d}" for i in range(5)]
    scene = make_scene("novel", 4)
    assert samples[4]["txt"].decode() == scene.caption
    assert samples[4]["captions.txt"].decode().splitlines() == true_captions(scene)
    assert json.loads(samples[4]["json"]) == scene.attributes()
    picture = np.asarray(Image.open(io.BytesIO(samples[4]["png"])))
    np.testing.assert_array_equal(picture, render(scene, size=32))
    cloud = np.load(io.BytesIO(samples[4]["npy"]))
    assert cloud.shape == (4096, 6) and cloud.dtype == np.float16


def test_scenes_of_one_shard_are_shared_by_processes(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(room, "SCENES_A_PROCESS", 2)
    monkeypatch.setattr(room, "worker_map", lambda workers: asked.append(workers) or nullcontext(map))
    for workers in (8, 3):
        write_shards("val", 9, tmp_path / str(workers), size=16, workers=workers)
    write_shards("val", 9, tmp_path / "3", size=16, workers=3)
    assert asked == [5, 3, 1]


def test_processes_write_the_same_bytes_and_leave_nothing_else(tmp_path, short_shards, monkeypatch):
    monkeypatch.setattr(room, "SCENES_A_PROCESS", 3)
    alone = write_shards("val", 7, tmp_path / "alone", size=32, workers=1)
    together = write_shards("val", 7, tmp_path / "together", size=32, workers=2)
    assert [path.read_bytes() for path in alone] == [path.read_bytes() for path in together]
    assert sorted(path.name for path in (tmp_path / "together").iterdir()) == [path.name for path in alone]


def test_a_second_run_keeps_whole_shards_and_lengthens_the_last(tmp_path, short_shards):
    first, second = write_shards("train", 5, tmp_path, size=32, workers=1)
    stamps = first.stat().st_mtime_ns, second.stat().st_mtime_ns
    write_shards("train", 7, tmp_path, size=32, workers=1)
    assert first.stat().st_mtime_ns == stamps[0] and second.stat().st_mtime_ns != stamps[1]
    with tarfile.open(second) as tar:
        assert len(tar.getnames()) == 3 * 5


def test_shards_of_other_scenes_are_not_overwritten(tmp_path):
    (path,) = write_shards("train", 2, tmp_path, size=32, workers=1)
    before = path.read_bytes()
    for other in ({"split": "val"}, {"size": 16}, {"start": 1}, {"clouds": True}):
        with pytest.raises(FileExistsError, match="another output folder"):
            write_shards(**{"split": "train", "count": 2, "out": tmp_path, "size": 32, "workers": 1} | other)
    assert path.read_bytes() == before


def test_a_failure_leaves_no_part_of_a_shard(tmp_path, monkeypatch, short_shards):
    def broken(scene, size):
        if scene.index == 4:
            raise KeyboardInterrupt
        return render(scene, size=size)

    monkeypatch.setattr(room, "render", broken)
    with pytest.raises(KeyboardInterrupt):
        write_shards("train", 6, tmp_path, size=32, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.tar"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"split": "trian"}, "train"), ({"count": 0}, "at least 1"), ({"workers": 0}, "at least 1")],
)
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_shards(**{"split": "train", "count": 3, "out": tmp_path / "new"} | wrong)
    assert not (tmp_path / "new").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="file"):
        write_shards("train", 3, tmp_path / "file")


def test_a_contact_sheet_places_pictures_in_rows():
    images = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = np.asarray(contact_sheet(images, columns=3, scale=2))
    assert sheet.shape == (4 + 2 * 20, 4 + 3 * 20, 3)
    assert (sheet[4:20, 24:40] == 10).all() and (sheet[24:40, 4:20] == 30).all()
    assert (sheet[24:40, 44:60] == 255).all()


def test_captions_widen_the_rows_and_must_be_as_many_as_pictures():
    images = [Image.new("RGB", (64, 64))] * 2
    plain, labelled = contact_sheet(images), contact_sheet(images, labels=["a cube", "a ball " * 9])
    assert labelled.width == plain.width and labelled.height > plain.height + 20
    for wrong in ({"images": []}, {"labels": ["one"]}, {"columns": 0}):
        with pytest.raises(ValueError, match=r"contact sheet|columns"):
            contact_sheet(**{"images": images} | wrong)
    assert scene_sheet("val", 3, size=32).width > 3 * 32


def test_scenes_of_two_things_alone(tmp_path, short_shards):
    paths = write_shards("train", 12, tmp_path, size=16, workers=1, things=2)
    scenes = [json.loads(sample["json"]) for sample in Shards(paths)]
    assert {len(scene["objects"]) for scene in scenes} == {2}
    assert [scene["index"] for scene in scenes] == [
        i for i in range(12) if len(make_scene("train", i).objects) == 2
    ]
    write_shards("train", 12, tmp_path / "all", size=16, workers=1)
    with pytest.raises(FileExistsError, match="does not hold train scenes"):
        write_shards("train", 12, tmp_path / "all", size=16, workers=1, things=2)
