"""What was saved is what is loaded: checksums, and numbers that are none."""

import sqlite3
from contextlib import closing

import pytest
import torch
from maquette.clip import ClipEncoder
from maquette.search.vector_table import About, Row, VectorTable
from maquette.weights import read_weights
from maquette.weights.checksums import SUMS, check_checksums, sha256_of
from maquette.weights.load_original import load_original
from maquette.weights.model_folder import load_part, write_model_folder
from maquette.weights.table import HERE
from tiny_models import TINY_CLIP


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "config.json", SUMS])
def test_a_flipped_bit_in_a_saved_model_is_refused(tmp_path, name):
    write_model_folder(tmp_path / "model", "ClipModel", {"encoder": ClipEncoder(**TINY_CLIP)}, {})
    folder = tmp_path / "model" / "encoder"
    assert (folder / SUMS).read_text().splitlines()[0] == f"{sha256_of(folder / 'config.json')}  config.json"
    load_part(ClipEncoder, folder, torch.float32)
    flip(folder / name, -20)
    with pytest.raises(ValueError, match="is not what was saved"):
        load_part(ClipEncoder, folder, torch.float32)
    if name == SUMS:  # as from before there were any, or changed on purpose
        (folder / SUMS).unlink()
        load_part(ClipEncoder, folder, torch.float32)


def test_the_bundled_weights_have_checksums_that_hold():
    parts = {path.parent for path in (HERE / "mini").rglob("*.json") if path.name != "model_index.json"}
    assert len(parts) >= 4
    for folder in parts:
        assert (folder / SUMS).is_file(), folder
        check_checksums(folder)


def test_a_flipped_bit_in_what_torch_saves_is_refused(tmp_path):
    torch.save({"a": torch.ones(10_000)}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")["a"].sum() == 10_000
    flip(tmp_path / "w.pt", 20_000)
    with pytest.raises(ValueError, match="as the checksum of w/data/0 tells"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_weights_that_are_not_finite_are_refused(value):
    net = torch.nn.Linear(40, 40)
    weights = {name: each.detach().double() for name, each in net.state_dict().items()}
    weights["weight"][39, 3] = value
    with pytest.raises(ValueError, match="NaN or infinity in weight; "):
        load_original(net, weights)
    assert net.weight.isfinite().all()


def test_of_a_damaged_index_it_is_said_which_it_is(tmp_path):
    VectorTable(tmp_path / "index", About("mini", "a", "/a", bytes(4)))
    content = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(content[: len(content) // 2])
    with pytest.raises(sqlite3.DatabaseError) as refused:
        VectorTable(tmp_path / "index")
    assert str(tmp_path / "index") in refused.value.__notes__[0]


def test_a_changed_row_of_an_index_is_refused(tmp_path):
    table = VectorTable(tmp_path / "index", About("mini", "a", "/a", bytes(4)))
    digest = bytes(range(16))
    table.write([Row("a.png", 1, 2, digest)], {digest: torch.ones(4).numpy()}, {})
    assert table.nearest(torch.ones(4).numpy(), 1) == [("a.png", 4.0)]
    for change in (
        "UPDATE pictures SET vector = x'00000000000000000000000000000000'",
        "UPDATE files SET path = 'b.png'",
    ):
        with closing(sqlite3.connect(tmp_path / "index")) as database, database:
            database.execute(change)
        with pytest.raises(ValueError, match="is damaged; delete it and make it again"):
            VectorTable(tmp_path / "index").nearest(torch.ones(4).numpy(), 1)
        with closing(sqlite3.connect(tmp_path / "index")) as database, database:
            database.execute("DELETE FROM pictures")
            database.execute("DELETE FROM files")
        table.write([Row("a.png", 1, 2, digest)], {digest: torch.ones(4).numpy()}, {})
