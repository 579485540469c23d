"""GLIDE's original checkpoints: by path, made into a model folder, and by name from a mirror."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import FULL_GOLDENS, GOLDENS
from goldens.formula import formula_state_dict
from huggingface_hub import constants
from loopback import Loopback
from maquette.__main__ import main
from maquette.clip import ClipTokenizer
from maquette.diffusion import GlideUNet, NoisedClip
from maquette.pipelines import GlidePipeline
from maquette.pipelines.convert import SETTINGS, convert, find_vocabulary, ready_model
from maquette.weights import find_model
from maquette.weights.read_weights import read_weights
from maquette.weights.table import _table
from PIL import Image
from safetensors.torch import load_file
from test_tokenizer import GPT2, MINI

BASES = {"base": "base.pt", "inpaint": "base_inpaint.pt"}
# Unlike the tiny records' upsamplers it draws 256 px in no time: like the published ones it attends at 8 px only.
UPSAMPLER: dict = {
    "model_channels": 32, "num_res_blocks": 1, "channel_mult": (1, 1, 1, 1, 1, 2), "attention_resolutions": (32,),
    "text_ctx": 16, "xf_width": 64, "xf_layers": 1, "n_vocab": 300, "super_res": True,
}  # fmt: skip
# The tiny record's widths, made multiples of 64, the published size of a head.
CLIP_WIDTHS = {"text_encoder": {32: 64, 48: 64, 128: 256}, "image_encoder": {48: 64, 192: 256}}
CLIP_FILES = {"text_encoder": "clip_text_enc.pt", "image_encoder": "clip_image_enc.pt"}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def manifest(name):
    folder = GOLDENS if (GOLDENS / "glide" / f"{name}.json").is_file() else FULL_GOLDENS
    return json.loads((folder / "glide" / f"{name}.json").read_text())


def write(path, entries, salt):
    torch.save({key: value.half() for key, value in formula_state_dict(entries, salt).items()}, path)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder of tiny files named and laid out as the published ones, float16, and their vocabulary."""
    folder = tmp_path_factory.mktemp("originals")
    for name, file in BASES.items():
        described = manifest(name)
        write(folder / file, described["weights"], described["salt"])
    for inpaint, file in ((False, "upsample.pt"), (True, "upsample_inpaint.pt")):
        with torch.device("meta"):
            shapes = GlideUNet(**UPSAMPLER, inpaint=inpaint).state_dict()
        entries = {key: {"shape": value.shape, "offset": 0, "scale": 0.02} for key, value in shapes.items()}
        write(folder / file, entries, 0)
    described = manifest("noised_clip")
    for side, widths in CLIP_WIDTHS.items():
        entries = {
            key.removeprefix(f"{side}."): {**entry, "shape": [widths.get(n, n) for n in entry["shape"]]}
            for key, entry in described["weights"].items()
            if key.startswith(side)
        }
        write(folder / CLIP_FILES[side], entries, described["salt"])
    (folder / "encoder.json").write_text(json.dumps(MINI.tokenizer.get_vocab()))
    merges = json.loads(MINI.tokenizer.to_str())["model"]["merges"]
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]))
    return folder


@pytest.fixture(autouse=True)
def one_step_of_the_upsampler(monkeypatch):
    monkeypatch.setitem(SETTINGS, "upsampler_steps", 1)


@pytest.fixture
def mirror(originals, tmp_path, monkeypatch):
    """The published addresses of GLIDE, served on loopback from `originals`."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MAQUETTE_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with Loopback(b"") as server:
        server.files = {path.name: path.read_bytes() for path in originals.iterdir()}
        root = server.url.rpartition("/")[0]
        files = {}
        for part, entry in _table()["glide"]["files"].items():
            name = entry["url"].rpartition("/")[2]
            sha256 = entry["sha256"] and hashlib.sha256(server.files[name]).hexdigest()
            files[part] = {**entry, "url": f"{root}/{name}", "sha256": sha256}
        monkeypatch.setitem(_table(), "glide", {**_table()["glide"], "files": files})
        yield server


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out.split(), err


def listed(capsys):
    """What `maquette models` says of glide after its tasks."""
    assert main(["models"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("glide "))
    return line.partition("inpainting ")[2].split()


def assert_same_weights(part, original, kind):
    saved, given = load_file(part / WEIGHTS), read_weights(original)
    assert {value.dtype for value in saved.values()} == {torch.float16}
    assert all(torch.equal(saved[key], given[key].reshape(saved[key].shape)) for key in given)
    assert (
        saved.keys() == given.keys() and json.loads((part / "config.json").read_text())["_class_name"] == kind
    )


@pytest.mark.parametrize("sort", ["", "_inpaint"])
def test_a_pair_becomes_a_model_folder(originals, tmp_path, capsys, sort):
    files = [originals / f"upsample{sort}.pt", originals / f"base{sort}.pt"]
    words = ["--vocabulary", originals / "encoder.json", originals / "vocab.bpe"]
    assert run(capsys, "convert", *files, "--out", tmp_path / "model", *words) == (
        0,
        [str(tmp_path / "model")],
        "",
    )
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"] == ("GlideInpaintPipeline" if sort else "GlidePipeline")
    assert (index["schedule"], index["upsampler_schedule"]) == ("squaredcos_cap_v2", "linear")
    for part, file in zip(("upsampler", "unet"), files, strict=True):
        assert index[part][1] == "GlideUNet"
        assert_same_weights(tmp_path / "model" / part, file, "GlideUNet")
    upsampler = GlideUNet.load_config(tmp_path / "model" / "upsampler")
    assert (upsampler["image_size"], upsampler["super_res"], upsampler["inpaint"]) == (256, True, bool(sort))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    pipe = GlidePipeline.from_pretrained(tmp_path / "model")
    assert pipe.tokenizer.encode("A red chair") == MINI.encode("A red chair")
    assert len(pipe("a red chair", num_inference_steps=1, seed=0).images) == 1


def test_the_noise_aware_clip_comes_along(originals, tmp_path):
    files = [originals / name for name in (*CLIP_FILES.values(), "base.pt")]
    convert(files, tmp_path / "model", [originals / "encoder.json", originals / "vocab.bpe"])
    clip = NoisedClip.from_pretrained(tmp_path / "model" / "noised_clip")
    assert (clip.config["n_head_text"], clip.config["image_size"]) == (1, 16)
    weights = load_file(tmp_path / "model" / "noised_clip" / WEIGHTS)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    tokenizer = ClipTokenizer.from_file(tmp_path / "model" / "clip_tokenizer" / "tokenizer.json")
    assert tokenizer.vocab_size == 49408
    table = read_weights(originals / "clip_text_enc.pt")["blocks.input.w_voc"]
    assert torch.equal(weights["text_encoder.input.w_voc"], table)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["base.pt", "base.pt"], "are both GLIDE's base network; give one"),
        (
            ["upsample.pt"],
            "upsample.pt (GLIDE's upsampler) make no model; add GLIDE's base network (base.pt)",
        ),
        (["base.pt", "upsample_inpaint.pt"], "/upsample_inpaint.pt\n"),
        (["base.pt", "clip_text_enc.pt"], "add GLIDE's noise-aware CLIP's image encoder (clip_image_enc.pt)"),
        (["upsample.pt", "upsample_inpaint.pt"], "add GLIDE's base network (base.pt) and leave out "),
        (["base.pt", "encoder.json"], "encoder.json is no file of weights"),
        (["base.pt", "other.pt"], "other.pt is not one of the known checkpoints: GLIDE's base network, "),
        (["base.pt", "nowhere.pt"], "there is no file"),
        (["cut.pt"], "these weights do not fit GlideUNet: out.0.bias (missing)"),
        (["other_words.pt"], "reads a vocabulary of 200 entries, and the one given has 300"),
    ],
)
def test_what_makes_no_model_is_one_sentence_and_no_folder(originals, tmp_path, capsys, names, said):
    base = read_weights(originals / "base.pt")
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pt")
    torch.save({key: value for key, value in base.items() if key != "out.0.bias"}, tmp_path / "cut.pt")
    fewer = base | {"token_embedding.weight": base["token_embedding.weight"][:200].clone()}
    torch.save(fewer, tmp_path / "other_words.pt")
    before = sorted(path.name for path in tmp_path.iterdir())
    files = [tmp_path / name if (tmp_path / name).exists() else originals / name for name in names]
    words = ["--vocabulary", originals / "encoder.json", originals / "vocab.bpe"]
    code, out, err = run(capsys, "convert", *files, "--out", tmp_path / "model", *words)
    assert (code, out) == (2, []) and said in err and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_of_something_else_is_left_alone(originals, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").write_text("mine")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    words = ["--vocabulary", originals / "encoder.json", originals / "vocab.bpe"]
    for place in (tmp_path / "mine", tmp_path / "mine" / "text"):
        code, _, err = run(capsys, "convert", originals / "base.pt", "--out", place, *words)
        assert code == 2 and "holds something else than a model" in err
    code, _, err = run(capsys, "convert", originals / "base.pt", "--out", tmp_path / "model", *words)
    assert code == 2 and "holds a model already" in err
    assert (tmp_path / "mine" / "text").read_text() == "mine"
    assert (tmp_path / "model" / "model_index.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["base.pt", "base_inpaint.pt"])
def test_one_file_draws_at_64_and_says_so(originals, mirror, tmp_path, capsys, name):
    target = tmp_path / "a.png"
    code, out, err = run(
        capsys, "create", "a red chair", "--steps", 1, "--model", originals / name, "-o", target
    )
    assert (code, out, Image.open(target).size) == (0, [str(target)], (64, 64))
    assert "alone, which draws 64 px" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "upsample.pt",
            "upsample.pt is GLIDE's upsampler; for text-to-image GLIDE's base network is expected",
        ),
        (
            "clip_image_enc.pt",
            "is GLIDE's noise-aware CLIP's image encoder; for text-to-image GLIDE's base network is expected",
        ),
        ("vocab.bpe", "vocab.bpe is no file of weights"),
    ],
)
def test_one_file_of_another_kind_is_called_what_it_is(originals, tmp_path, capsys, name, said):
    target = tmp_path / "a.png"
    code, out, err = run(capsys, "create", "a cat", "--model", originals / name, "-o", target)
    assert (code, out, target.exists()) == (2, [], False) and said in err.splitlines()[-1]


def test_by_name_it_is_fetched_and_converted_once(mirror, tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match="`maquette download glide` fetches it"):
        find_model("glide", "text-to-image")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "create", "a red chair", "--steps", 1, "--model", "glide")
    assert (code, out) == (0, [str(tmp_path / "a-red-chair.png")]), err
    assert Image.open(out[0]).text["model"] == "glide"
    cache = tmp_path / "cache"
    folder = cache / "glide-text-to-image"
    assert find_model("glide", "text-to-image") == folder and (folder / "upsampler").is_dir()
    assert (folder / "noised_clip").is_dir()
    assert len(mirror.requests) == 6
    for path in cache.iterdir():
        if path.suffix in (".pt", ".json", ".bpe"):
            path.unlink()
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    assert ready_model("glide", "text-to-image") == folder
    assert listed(capsys)[4:7] == ["1", "of", "2"]


def test_by_name_offline_says_what_is_missing(mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    code, out, err = run(capsys, "create", "a cat", "--model", "glide", "-o", tmp_path / "a.png")
    assert (code, out) == (2, []) and "MAQUETTE_OFFLINE forbids downloading it" in err
    assert not (tmp_path / "a.png").exists()


def test_several_at_once_convert_once_and_what_was_killed_is_removed(mirror, tmp_path):
    killed = tmp_path / "cache" / ".glide-inpainting.1.partial" / "unet"
    killed.mkdir(parents=True)
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: ready_model("glide", "inpainting"), range(3)))
    assert folders == {tmp_path / "cache" / "glide-inpainting"} and len(mirror.requests) == 4
    assert not killed.exists()
    assert not list((tmp_path / "cache").glob("*.partial*")) + list((tmp_path / "cache").glob(".*.old"))


def test_download_fetches_and_converts_all_tasks(mirror, tmp_path, capsys):
    code, out, _ = run(capsys, "download", "glide")
    assert (code, [Path(path).name for path in out]) == (0, ["glide-text-to-image", "glide-inpainting"])
    assert listed(capsys) == ["3,448", "to", "6,896", "MB", "yes", f"{out[0]},", out[1]]


@pytest.mark.skipif(not GPT2.is_dir(), reason=f"GPT-2's vocabulary is not committed, and not at {GPT2}")
@pytest.mark.parametrize("repository", ["gpt2", "openai-community/gpt2"])
def test_the_hubs_gpt2_gives_the_same_ids(mirror, tmp_path, monkeypatch, repository):
    from tokenizers import AddedToken, Tokenizer, processors

    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="MAQUETTE_OFFLINE"):
        find_vocabulary()
    ours = find_vocabulary([GPT2 / "gpt2_encoder.json.gz", GPT2 / "gpt2_vocab.bpe.gz"])
    # As in the Hub's file: the end of a text is a special token, and offsets are processed.
    theirs = Tokenizer.from_str(ours.tokenizer.to_str())
    theirs.add_special_tokens([AddedToken("<|endoftext|>", normalized=True)])
    theirs.post_processor = processors.ByteLevel(trim_offsets=False)
    model = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    (model / "snapshots" / "abc").mkdir(parents=True)
    theirs.save(str(model / "snapshots" / "abc" / "tokenizer.json"))
    found = find_vocabulary()
    assert found.vocab_size == 50257
    for record in json.loads((GOLDENS / "tokenizers" / "texts.json").read_text()):
        assert found.encode(record["text"]) == record["glide"]
        tokens, mask = found.with_mask([record["text"]], 16)
        assert [tokens[0].tolist(), mask[0].tolist()] == record["glide_padded_16"]
        assert found.truncated_at(record["text"], 4) == ours.truncated_at(record["text"], 4)


@pytest.mark.full
@pytest.mark.parametrize("sort", ["", "_inpaint"])
def test_published_sizes(tmp_path, sort):
    files = []
    for name in ("inpaint" if sort else "base", f"upsample{sort}"):
        described = manifest(f"{name}_full")
        files.append(tmp_path / f"{name}.pt")
        write(files[-1], described["weights"], described["salt"])
    convert(files, tmp_path / "model", [GPT2 / "gpt2_encoder.json.gz", GPT2 / "gpt2_vocab.bpe.gz"])
    for part, file in zip(("unet", "upsampler"), files, strict=True):
        assert_same_weights(tmp_path / "model" / part, file, "GlideUNet")
    made = GlidePipeline.from_pretrained(tmp_path / "model")("a corgi", num_inference_steps=1, seed=0)
    assert made.images[0].size[0] in (64, 256)
    shutil.rmtree(tmp_path)  # three gigabytes, which pytest would keep
