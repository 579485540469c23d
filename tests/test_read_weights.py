"""Files of weights, whole, damaged and hostile."""

import os
import pickle
import warnings
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from maquette.weights import read_weights
from safetensors.torch import save_file
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.attn = nn.MultiheadAttention(width, 2)
        self.register_buffer("passing", torch.ones(2), persistent=False)

    def forward(self, x):
        x = self.bn(self.conv(x)).flatten(2).transpose(1, 2)
        return self.attn(x, x, x)[0]


class Nested(nn.Module):
    """What a TorchScript archive can hold: nesting, sharing, views, float16, and tensors that are no weights."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(Block(4), nn.GELU())
        self.lin, self.tied = nn.Linear(36, 36), nn.Linear(36, 36, bias=False)
        self.tied.weight = self.lin.weight
        self.again = self.lin
        self.proj = nn.Parameter(torch.randn(36, 2).half())
        self.turned = nn.Parameter(torch.arange(12.0).reshape(3, 4)[1:].t())
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("wide", torch.ones(1).expand(5))
        self.register_buffer("none", torch.ones(0, 3))
        self.register_buffer("context_length", torch.tensor(7))
        self.plain = torch.ones(3)

    def forward(self, x):
        x = self.again(self.tied(self.lin(self.visual(x).flatten(1)[:, :36])))
        others = (
            self.turned.sum() + self.wide.sum() + self.plain.sum() + self.none.sum() + self.context_length
        )
        return x @ self.proj.float() * self.logit_scale + others


def as_script(path, how="script"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Nested().eval()
        script = torch.jit.script(net) if how == "script" else torch.jit.trace(net, torch.randn(4, 3, 5, 5))
        script.save(path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "model.pt"
    as_script(path)
    return path


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name


@pytest.mark.parametrize("how", ["script", "trace"])
def test_archives_give_what_running_them_would(tmp_path, how):
    as_script(tmp_path / "model.pt", how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.jit.load(tmp_path / "model.pt").state_dict()
    assert expected.pop("context_length") == 7
    found = read_weights(tmp_path / "model.pt")
    assert_same(found, expected)
    assert found["proj"].dtype == torch.float16 and "plain" not in found
    assert all(found[name].stride() == value.stride() for name, value in expected.items())
    assert not any(value.requires_grad for value in found.values())


def test_the_file_is_mapped_not_changed(archive, tmp_path):
    before = archive.read_bytes()
    read_weights(archive)["lin.weight"].zero_()
    assert archive.read_bytes() == before


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3).t(), "a.bias": torch.ones(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize(
    "content", [STATE, {"state_dict": STATE, "epoch": 3}, {f"module.{name}": v for name, v in STATE.items()}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves(tmp_path, content, zipped):
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert_same(read_weights(tmp_path / "w.pt"), STATE)


def test_safetensors_by_their_content(tmp_path):
    save_file({name: value.contiguous() for name, value in STATE.items()}, tmp_path / "w.bin")
    found = read_weights(str(tmp_path / "w.bin"))
    assert_same({name: found[name] for name in STATE}, STATE)
    assert len(found) == len(STATE)


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def rewritten(archive, path, replace):
    """The archive with some of its entries replaced or added."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, replace.pop(info.filename.partition("/")[2], old.read(info)))
        for name, content in replace.items():
            new.writestr(f"{archive.stem}/{name}", content)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "archive", "source"])
def test_hostile_files_do_not_run(archive, tmp_path, kind):
    path, mark = tmp_path / "w.pt", tmp_path / "it-ran"
    hostile = Hostile(mark)
    if kind in ("zip", "legacy"):
        torch.save({"a": hostile}, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"a": hostile}))
    elif kind == "archive":
        rewritten(archive, path, {"data.pkl": pickle.dumps(hostile, 2)})
    else:
        code = f"import os; os.mkdir({str(mark)!r})".encode()
        asked = b"\x80\x02c__builtin__\nexec\nX" + len(code).to_bytes(4, "little") + code + b"\x85R."
        rewritten(archive, path, {"data.pkl": asked})
    with pytest.raises(ValueError, match="it was not run") as refused:
        read_weights(path)
    assert str(path) in " ".join([str(refused.value), *getattr(refused.value, "__notes__", [])])
    assert not mark.exists()


def test_a_description_can_change_nothing_that_outlives_it(archive, tmp_path):
    """BUILD sets attributes: of what an archive names there are only stand-ins, made anew for each archive."""
    for name in (
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"c__torch__.a\nA\n",
    ):
        asked = b"\x80\2" + name + b"N}(X\1\0\0\0aK\1u\x86b."
        rewritten(archive, tmp_path / "w.pt", {"data.pkl": asked})
        with pytest.raises(TypeError):
            read_weights(tmp_path / "w.pt")


def test_the_code_in_an_archive_is_not_even_compiled(archive, tmp_path):
    with zipfile.ZipFile(archive) as old:
        source = next(name for name in old.namelist() if name.endswith(f"{__name__}.py"))
        broken = old.read(source) + b"  def broken(self) -> import os\n"
    rewritten(archive, tmp_path / "w.pt", {source.partition("/")[2]: broken})
    with pytest.raises(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(tmp_path / "w.pt")
    assert_same(read_weights(tmp_path / "w.pt"), read_weights(archive))


def test_modules_that_never_end_are_refused(archive, tmp_path):
    source = b"class Own(Module):\n  __parameters__ = []\n  __buffers__ = []\n"
    new = b"c__torch__.own\nOwn\n)\x81"

    def holding(*others):
        """Opcodes that give the newest object the attributes a, b, … of these places in the memo."""
        named = (b"X\1\0\0\0" + b"ab"[i : i + 1] + b"h" + bytes([other]) for i, other in enumerate(others))
        return b"}(" + b"".join(named) + b"ub"

    itself = new + b"q\0" + holding(0)
    doubled = new + b"q\0"
    for i in range(60):
        doubled += new + holding(i, i) + b"q" + bytes([i + 1])
    for description in (itself, doubled):
        rewritten(
            archive,
            tmp_path / "w.pt",
            {"code/__torch__/own.py": source, "data.pkl": b"\x80\2" + description + b"."},
        )
        with pytest.raises(ValueError, match="describes a module that never ends"):
            read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n and so on", b"<html>not found</html>"])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no file of weights") as refused:
        read_weights(path)
    assert str(refused.value).startswith(str(path))


def test_what_a_library_says_of_a_damaged_file_is_said_of_that_file(sound, tmp_path):
    for number, content in enumerate(sound):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(Exception) as refused:
            read_weights(path)
        assert str(path) in " ".join(getattr(refused.value, "__notes__", [str(refused.value)]))


def test_what_holds_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    for content in (
        [torch.ones(1)],
        {},
        {"a": torch.ones(1), "lr": 0.1},
        torch.ones(2),
        {"context_length": 77},
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match="state dict"):
            read_weights(path)
    with pytest.raises(ValueError, match="is a folder; give the file"):
        read_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_weights(tmp_path / "nothing.pt")


@pytest.fixture(scope="module")
def sound(archive, tmp_path_factory):
    """One sound file of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("sound")
    state = {name: value.contiguous() for name, value in STATE.items()}
    save_file(state, folder / "a")
    torch.save(STATE, folder / "b")
    torch.save(STATE, folder / "c", _use_new_zipfile_serialization=False)
    return [archive.read_bytes(), *((folder / name).read_bytes() for name in "abc")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_harmless(sound, tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(sound)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    try:
        found = read_weights(path)
    except Exception:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())


WORDS = [
    *(
        b"c__torch__.own\nOwn\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
        b"cos\nmkdir\n",
    ),
    *(b"ccollections\nOrderedDict\n", b"ctorch.jit._pickle\nbuild_intlist\n", b"X\1\0\0\0a", b"X\1\0\0\x000"),
    *(
        b"K\1",
        b"M\xff\xff",
        b"J\xff\xff\xff\xff",
        b"N",
        b"(",
        b")",
        b"]",
        b"}",
        b"t",
        b"\x85",
        b"\x86",
        b"R",
        b"\x81",
    ),
    *(b"b", b"Q", b"s", b"u", b"a", b"e", b"q\0", b"h\0", b"r\xff\xff\xff\x7f", b"."),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=25))
def test_any_other_description_is_refused(archive, tmp_path, words):
    rewritten(archive, tmp_path / "w.pt", {"data.pkl": b"\x80\2" + b"".join(words) + b"."})
    with pytest.raises(Exception):  # noqa: B017 - whatever the unpickler raises, but no crash and no hang
        read_weights(tmp_path / "w.pt")
