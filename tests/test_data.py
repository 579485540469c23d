"""Shards by number: order, shares, and what is said of missing or damaged ones."""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.training import Shards
from maquette.training.data import load, shuffled, split
from maquette.training.shards import add_sample


def write_shard(path, samples):
    with tarfile.open(path, "w") as tar:
        for name, content in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def pattern(tmp_path):
    for shard in range(2):
        samples = {
            f"{shard}/{i}.{ext}": f"{shard} {i} {ext}".encode() for i in range(5) for ext in ("a", "seg.B")
        }
        write_shard(tmp_path / f"s-{shard}.tar", samples)
    return str(tmp_path / "s-{0..1}.tar")


def prepare(sample):
    return {"number": torch.tensor(int(sample["a"].split()[1]))}


def test_samples_by_number(pattern):
    shards = Shards(pattern)
    assert len(shards) == 10
    assert shards[7] == {"__key__": "1/2", "__url__": shards.paths[1], "a": b"1 2 a", "seg.b": b"1 2 seg.B"}
    assert shards.fingerprint() == Shards(pattern).fingerprint() != Shards(shards.paths[0]).fingerprint()


def test_a_folder_is_its_shards_and_braces_are_several(pattern, tmp_path):
    whole = Shards(pattern)
    (tmp_path / "notes.txt").write_text("not a shard")
    assert Shards(tmp_path).paths == whole.paths
    (tmp_path / "w{1,2}").mkdir()
    write_shard(tmp_path / "w{1,2}" / "shard.tar", {"k.a": b"x"})
    assert len(Shards(tmp_path / "w{1,2}")) == 1
    for name in "ab":
        (tmp_path / name).mkdir()
        Path(whole.paths["ba".index(name)]).rename(tmp_path / name / "shard.tar")
    assert [sample.key for sample in Shards(f"{tmp_path}/{{b,a}}").samples] == [
        sample.key for sample in whole.samples
    ]


def test_other_content_of_the_same_size_is_other_data_and_another_order_of_parts_is_not(tmp_path):
    paths = [tmp_path / f"{name}.tar" for name in "abc"]
    for path, parts in zip(
        paths, ({"a": b"1", "b": b"2"}, {"b": b"2", "a": b"1"}, {"a": b"3", "b": b"2"}), strict=True
    ):
        with tarfile.open(path, "w") as tar:
            add_sample(tar, "key", parts)
    first, turned, other = (Shards(path).fingerprint() for path in paths)
    assert first == turned != other


def test_batches_come_in_order(pattern):
    wanted = [[i % 10, (3 * i) % 10] for i in range(50)]
    batches = [batch["number"].tolist() for batch in load(Shards(pattern), prepare, wanted, range(10))]
    assert batches == [[number % 5 for number in numbers] for numbers in wanted]


@given(st.integers(2, 60), st.integers(0, 40), st.integers(0, 2**31), st.integers(0, 3))
def test_every_epoch_holds_each_training_sample_once(count, held, seed, epoch):
    held %= count
    training, validation = split(count, held, seed)
    assert sorted([*training, *validation]) == list(range(count)) and len(validation) == held
    positions = range(epoch * len(training), (epoch + 1) * len(training))
    order = shuffled(training, seed, positions)
    assert sorted(order) == training.tolist()
    middle = len(training) // 2
    assert (
        shuffled(training, seed, positions[:middle]) + shuffled(training, seed, positions[middle:]) == order
    )


def test_epochs_differ():
    numbers = np.arange(50)
    assert shuffled(numbers, 0, range(50)) != shuffled(numbers, 0, range(50, 100))


def test_missing_shard_is_named(pattern):
    (Path(pattern).parent / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no shards; of pictures and captions"):
        Shards(Path(pattern).parent / "empty")
    with pytest.raises(FileNotFoundError, match=r"s-2\.tar"):
        Shards(pattern.replace("0..1", "0..3"))


def test_damaged_shards_are_named(pattern, tmp_path):
    path = tmp_path / "s-1.tar"
    whole = path.read_bytes()
    in_header, in_data, between = whole[:2148], whole[:2570], whole[:2048]
    for damaged in (in_header, in_data, between, whole[:2048] + b"x" * 9000, b"not a tar file", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"s-1\.tar is damaged"):
            Shards(pattern)
    path.write_text("filepath,title\ncat.png,a cat\n")
    with pytest.raises(ValueError, match=r"s-1\.tar is damaged or no tar archive: .*; shards are plain tars"):
        Shards(pattern)
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            add_sample(tar, "key", {"txt": b"a ball"})
    with pytest.raises(ValueError, match=r"damaged at key\.txt: there are two files of this name"):
        Shards(pattern)
    write_shard(path, {})
    with pytest.raises(ValueError, match=r"s-1\.tar holds no samples"):
        Shards(pattern)


@pytest.mark.parametrize(
    ("content", "message"), [({"k.a": b"x y"}, "invalid literal"), ({"k.b": b""}, r"KeyError\('a'\)")]
)
def test_undecodable_samples_are_named(tmp_path, content, message):
    write_shard(tmp_path / "bad.tar", content)
    with pytest.raises(ValueError, match=rf"sample k of .*bad\.tar cannot be read: .*{message}"):
        list(load(Shards(str(tmp_path / "bad.tar")), prepare, [[0]], [0]))


def test_a_sample_that_cannot_be_read_is_warned_of_and_the_next_one_taken(pattern):
    def picky(sample):
        if sample["__key__"] in broken:
            raise ValueError("it is broken")
        return prepare(sample)

    def numbers(batches):
        return [
            batch["number"].tolist() for batch in load(Shards(pattern), picky, batches, [0, 2, 3, 7, 8, 9])
        ]

    broken = {"0/3", "1/2", "1/4"}
    with pytest.warns(UserWarning) as warned:
        assert numbers([[2, 3], [9, 8]]) == [[2, 3], [0, 3]]
    assert sorted(str(each.message)[:10] for each in warned) == ["sample 0/3", "sample 1/2", "sample 1/4"]
    broken |= {"0/2", "1/3"}
    with pytest.raises(
        ValueError, match=r"sample 0/2 of .*s-0.tar cannot be read: it is broken; nor can those after it"
    ):
        numbers([[2]])


def test_holding_out_everything_is_refused():
    with pytest.raises(ValueError, match="validation_samples is 10"):
        split(10, 10, 0)


@given(st.data())
@settings(deadline=None)
def test_a_sample_that_was_changed_after_it_was_written_is_named(data):
    parts = {"txt": b"a ball", "png": bytes(range(40))}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "s.tar"
        with tarfile.open(path, "w") as tar:
            add_sample(tar, "0", parts)
        found = Shards([path])
        assert found[0] == {"__key__": "0", "__url__": str(path), **parts}
        offset, size = data.draw(st.sampled_from(list(found.samples[0].parts.values())))
        content = bytearray(path.read_bytes())
        content[offset + data.draw(st.integers(0, size - 1))] ^= 1 << data.draw(st.integers(0, 6))
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"sample 0 of .* it is not what was written"):
            Shards([path])[0]
