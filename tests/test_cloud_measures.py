"""P-FID, P-IS, Chamfer distance, F-score and R-precision, and the command that reports them."""

import json

import numpy as np
import pytest
import torch
from goldens.formula import formula_state_dict
from maquette.commands.cli import run
from maquette.point_e import PointCloud, PointNetClassifier
from maquette.point_e.evaluation import (
    chamfer_distance,
    f_score,
    frechet_distance,
    inception_score,
    r_precision,
    read_clouds,
)
from maquette.point_e.evaluation.cloud_judge import judged
from maquette.toybox.scenes import make_scene
from maquette.toybox.shards import write_shards
from maquette.toybox.vocabulary import THINGS


def toy(index, points=512):
    cloud = make_scene("val", index).cloud(points)
    return PointCloud(cloud[:, :3], cloud[:, 3:].clip(0, 1))


def test_record(golden):
    _, tensors = golden("point_e/metrics")
    distance = frechet_distance(tensors["in/features_a"], tensors["in/features_b"])
    assert distance == pytest.approx(tensors["out/frechet_distance"].item(), rel=1e-4)
    score = inception_score(tensors["in/class_probabilities"].log())
    assert score == pytest.approx(tensors["out/inception_score"].item(), rel=1e-4)


def test_frechet_distance_of_few_and_of_the_same():
    few = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(few, few + 2) == pytest.approx(64, rel=1e-4)
    with pytest.raises(ValueError, match="2 clouds or more"):
        frechet_distance(few[:1], few)


def test_inception_score_of_the_sure():
    sure = torch.full((8, 4), -torch.inf)
    sure[torch.arange(8), torch.arange(8) % 4] = 0
    assert inception_score(sure) == pytest.approx(4)
    assert inception_score(torch.zeros(8, 4) - np.log(4)) == pytest.approx(1)


def test_the_judge_knows_toyboxs_things_from_any_number_of_points_in_any_order(tmp_path, capsys):
    scenes = [scene for index in range(20) if len((scene := make_scene("val", index)).objects) == 1]
    clouds = [toy(scene.index, points) for scene, points in zip(scenes, (1024, 4096, 2000) * 7, strict=False)]
    found = judged(clouds).log_probabilities.argmax(1)
    assert [THINGS[number] for number in found] == [scene.objects[0].thing for scene in scenes]
    for cloud, scene in zip(clouds, scenes, strict=True):
        cloud.save(tmp_path / f"{scene.index}.npz")
    run(["eval", "clouds", str(tmp_path), "--classifier", "toybox", "--json"])
    assert json.loads(capsys.readouterr().out)["p_is"] > 4


def test_distances_of_two_clouds():
    line = np.linspace(0, 1, 101)[:, None] * [1, 0, 0]
    shifted = line + np.array([0, 0.01, 0])
    assert chamfer_distance(line, shifted) == pytest.approx(0.01)
    assert f_score(line, shifted) == 1
    assert f_score(line + np.array([0, 1, 0]), line) == 0
    # Half of it: all of what is there is right, and half (and a little) of the truth is found.
    assert f_score(line[:51], line, near=0.025) == pytest.approx(2 * 53 / 101 / (1 + 53 / 101))


def test_r_precision():
    from maquette.clip.model import ClipModel

    clouds = [toy(index, 4096) for index in (4, 10, 12)]
    captions = [make_scene("val", index).caption for index in (4, 10, 12)]
    model = ClipModel.from_pretrained("mini")
    assert r_precision(model, clouds, captions) > 0.6
    assert r_precision(model, clouds, captions[1:] + captions[:1]) < 0.4
    with pytest.raises(ValueError, match="two that differ"):
        r_precision(model, clouds, ["a ball"] * 3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two folders of the same four toys, the second sampled more finely."""
    folder = tmp_path_factory.mktemp("sets")
    for name, points in (("a", 512), ("b", 600)):
        (folder / name).mkdir()
        for index in range(4):
            toy(index, points).save(folder / name / f"{index}{'.ply' if index % 2 else '.npz'}")
            (folder / name / f"{index}.txt").write_text(make_scene("val", index).caption)
    return folder


@pytest.fixture(scope="module")
def classifier(sets, golden):
    manifest, _ = golden("point_e/metrics")
    PointNetClassifier.from_original(
        formula_state_dict(manifest["weights"], manifest["salt"])
    ).save_pretrained(sets / "classifier")
    return sets / "classifier"


def test_command(sets, classifier, capfd):
    a, b = str(sets / "a"), str(sets / "b")
    assert run(["evaluate", "clouds", a, b, "--classifier", str(classifier), "--clip", "mini", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["a"], result["b"], result["pairs"], result["skipped"]) == (4, 4, 4, [])
    assert 0 < result["chamfer"] < 0.03 and result["f_score"] > 0.5
    assert result["p_fid"] > 0 and 1 <= result["p_is"] <= 4 and 0 <= result["r_precision"] <= 1
    file = str(sets / "a" / "1.ply")
    assert run(["evaluate", "clouds", file, file]) == 0
    assert "F-score within 0.02, mean" in capfd.readouterr().out


def test_the_published_classifier_is_known_by_name(sets, monkeypatch, capfd):
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    assert run(["evaluate", "clouds", str(sets / "a"), "--classifier", "point-e-pointnet"]) == 2
    assert "MAQUETTE_OFFLINE forbids downloading it" in capfd.readouterr().err


def test_what_a_classifier_cannot_see_is_left_out_of_its_measures_alone(sets, classifier, tmp_path, capfd):
    whole = PointCloud.load(sets / "a" / "1.ply")
    whole.save(tmp_path / "1.ply")
    whole.random_sample(100).save(tmp_path / "0.ply")
    call = ["evaluate", "clouds", str(tmp_path), str(sets / "b"), "--classifier", str(classifier), "--json"]
    assert run(call) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    assert result["a"] == 2 and result["chamfer"] > 0 and result["p_is"] >= 1 and "p_fid" not in result
    assert "0 from P-FID and P-IS: it has 100 points" in err and "P-FID: it needs two clouds" in err


def test_of_two_clouds_of_one_name_the_second_is_left_out(sets, tmp_path, capfd):
    for name in ("1.npz", "1.ply"):
        PointCloud.load(sets / "a" / "1.ply").save(tmp_path / name)
    assert run(["evaluate", "clouds", str(tmp_path), str(sets / "b")]) == 0
    assert "another cloud is called 1 as well" in capfd.readouterr().err


def test_what_cannot_be_read_is_left_out_or_named(sets, tmp_path, capfd):
    (tmp_path / "0.npz").write_bytes((sets / "a" / "0.npz").read_bytes())
    (tmp_path / "1.ply").write_bytes((sets / "a" / "1.ply").read_bytes()[:300])
    assert run(["evaluate", "clouds", str(tmp_path), str(sets / "b")]) == 0
    assert "left out" in capfd.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ([tmp_path / "1.ply", sets / "b"], "cannot be read as a point cloud"),
        ([empty, sets / "b"], "holds no clouds"),
        ([sets / "a"], "nothing to measure"),
        ([sets / "a" / "1.ply", sets / "c.ply"], "no file"),
        ([sets / "a", sets / "a" / "1.txt"], "not called like a cloud"),
        ([sets / "a", "--classifier", sets / "a" / "1.ply"], "no file of weights"),
        ([tmp_path, "--clip", "mini"], "has no caption"),
    ):
        assert run(["evaluate", "clouds", *map(str, arguments)]) == 2
        said = capfd.readouterr().err
        assert message in said and said.startswith("maquette: ") and said.count("\n") == 1


def test_shards_are_sets(tmp_path):
    (shard,) = write_shards("val", 3, tmp_path, clouds=True, workers=1)
    found = read_clouds(shard)
    assert list(found.clouds) == list(found.captions) == [f"val-{index:08d}" for index in range(3)]
    assert found.captions["val-00000000"] == make_scene("val", 0).caption
    assert len(found.clouds["val-00000000"]) == 4096
    for several in (tmp_path, tmp_path / "shard-{00000..00000}.tar"):
        assert read_clouds(several).clouds.keys() == found.clouds.keys()
    next(iter(found.clouds.values())).save(tmp_path / "chair{1}.ply")
    assert [*read_clouds(tmp_path / "chair{1}.ply").clouds] == ["chair{1}"]
    assert [*read_clouds(tmp_path).clouds] == ["chair{1}"]  # the tar may be a copy of them
    (pictures,) = write_shards("val", 1, tmp_path / "pictures", size=16, workers=1)
    with pytest.raises(FileNotFoundError, match="holds no clouds"):
        read_clouds(pictures)
