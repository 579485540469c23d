"""What is written is whole or absent."""

import pytest
from maquette.weights.write_whole import write_whole


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
