"""OpenAI's interface: what was written for their package runs, and computes what an archive's own code computes."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette import clip
from openai_archive import write_archive
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
COLOURS = {"blue": (20, 40, 220), "green": (30, 180, 50), "red": (220, 40, 30)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The path of a checkpoint in OpenAI's format, and the same as TorchScript runs it."""
    path = tmp_path_factory.mktemp("openai") / "small.pt"
    return path, write_archive(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Noisy pictures of three colours, in train/COLOUR and test/COLOUR."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, number in {"train": 8, "test": 3}.items():
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for i in range(number):
                noisy = random.normal(colour, 30, (40, 50, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / part / name / f"{i}.png")
    return folder


def close(ours, theirs):
    return torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def run_example(monkeypatch, capsys, name, *arguments):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_label_probabilities(archive, pictures):
    path, theirs = archive
    model, preprocess = clip.load(str(path), device="cpu")
    with Image.open(pictures / "test" / "red" / "0.png") as picture:
        image = preprocess(picture).unsqueeze(0).to("cpu")
    text = clip.tokenize(["a diagram", "a dog", "a cat"]).to("cpu")
    with torch.no_grad():
        assert close(model.encode_image(image), theirs.encode_image(image))
        assert close(model.encode_text(text), theirs.encode_text(text))
        logits_per_image, logits_per_text = model(image, text)
        expected = theirs(image, text)
    assert close(logits_per_image, expected[0])
    assert close(logits_per_text, expected[1])
    assert logits_per_image.softmax(dim=-1).cpu().numpy().shape == (1, 3)


def test_zero_shot_example(archive, pictures, monkeypatch, capsys):
    path, theirs = archive
    arguments = ("--model", path, "--data", pictures / "test", "--picture", 4)
    printed = run_example(monkeypatch, capsys, "clip_zero_shot.py", *arguments)
    assert "It is of class green." in printed

    _, preprocess = clip.load(path, "cpu")
    with Image.open(pictures / "test" / "green" / "1.png") as picture, torch.no_grad():
        image = theirs.encode_image(preprocess(picture)[None])
        text = theirs.encode_text(clip.tokenize([f"a photo of a {name}" for name in COLOURS]))
    likeness = (100 * torch.cosine_similarity(image, text)).softmax(dim=0)
    found = {name: float(percent) for name, percent in re.findall(r"^ +(\w+): ([\d.]+)%$", printed, re.M)}
    assert list(found) == [list(COLOURS)[i] for i in likeness.argsort(descending=True)]
    assert [found[name] for name in COLOURS] == pytest.approx((100 * likeness).tolist(), abs=0.1)


def test_linear_probe_example(archive, pictures, monkeypatch, capsys):
    printed = run_example(
        monkeypatch, capsys, "clip_linear_probe.py", "--model", archive[0], "--data", pictures, "--C", 10
    )
    assert printed.endswith("Accuracy = 100.000\n")


def test_a_model_is_a_module_like_the_original(archive, tmp_path):
    path, theirs = archive
    model, preprocess = clip.load(path, torch.device("cpu"))
    assert (model.visual.input_resolution, model.context_length, model.vocab_size) == (32, 77, 49408)
    assert [type(step).__name__ for step in preprocess.transforms] == [
        "Resize", "CenterCrop", "function", "ToTensor", "Normalize",
    ]  # fmt: skip
    assert model.dtype == torch.float32
    assert not model.training
    assert model.logit_scale.exp().item() == pytest.approx(theirs.logit_scale.exp().item())
    numbers = {"input_resolution", "context_length", "vocab_size"}
    assert model.state_dict().keys() == theirs.state_dict().keys() - numbers

    # Fine-tuning as people do: gradients everywhere, half-precision files, a plain state dict read back.
    images, text = torch.randn(2, 3, 32, 32), clip.tokenize(["one", "two"])
    per_image, per_text = model.train()(images, text)
    loss = sum(torch.nn.functional.cross_entropy(logits, torch.arange(2)) for logits in (per_image, per_text))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.save({key: value.half() for key, value in model.state_dict().items()}, tmp_path / "tuned.pt")
    again, _ = clip.load(tmp_path / "tuned.pt", "cpu")
    assert again.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(again(images, text)[0], per_image, atol=0.1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_jit_gives_a_traced_module_with_an_archives_attributes(archive):
    model, preprocess = clip.load(archive[0], "cpu", jit=True)
    assert isinstance(model, torch.jit.ScriptModule)
    assert model.state_dict().keys() == archive[1].state_dict().keys()
    for name in ("input_resolution", "context_length", "vocab_size"):
        assert getattr(model, name).item() == getattr(archive[1], name).item()
    image = preprocess(Image.new("RGB", (40, 50), COLOURS["red"]))[None].expand(3, -1, -1, -1)
    text = clip.tokenize(["a dog"])
    assert close(model.encode_image(image), archive[1].encode_image(image))
    assert close(model.encode_text(text), archive[1].encode_text(text))
    assert close(model(image, text)[0], archive[1](image, text)[0])


def test_what_load_cannot_do_is_one_sentence(archive, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match=r"ViT-B/23 is neither a file nor .*did you mean 'ViT-B/32'"):
        clip.load("ViT-B/23")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no CLIP"):
        clip.load(tmp_path / "other.pt")
    weights = {key: value for key, value in archive[1].state_dict().items() if not key.startswith("visual.")}
    torch.save(weights, tmp_path / "texts.pt")
    with pytest.raises(ValueError, match="no image encoder"):
        clip.load(tmp_path / "texts.pt")
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'ViT-B-32.pt'} is missing")):
        clip.load("ViT-B/32", download_root=tmp_path)


CLIENT = """
import clip
import clip.model
from clip import clip as module, load
from clip.clip import _transform, tokenize
from clip.model import CLIP, ResidualAttentionBlock, convert_weights
from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer

_tokenizer = _Tokenizer()
model, preprocess = clip.load(PATH, device="cpu", jit=False)
assert isinstance(model, CLIP) and isinstance(model.transformer.resblocks[0], ResidualAttentionBlock)
again = module.build_model(model.state_dict()).float()
assert type(again) is type(model) is clip.model.CLIP and load is clip.load is module.load
assert module._MODELS["ViT-B/32"].endswith("/ViT-B-32.pt") and list(module._MODELS) == clip.available_models()
assert tokenize("a cat").tolist()[0][1:3] == _tokenizer.encode("a cat") == module._tokenizer.encode("a cat")
assert [type(step) for step in preprocess.transforms] == [type(step) for step in _transform(32).transforms]
print(model.encode_text(tokenize("a cat")).shape)
"""


def test_a_program_that_was_not_changed_runs(archive, tmp_path):
    """With a start-up that puts this package in the original's place, in a process of its own."""
    start = "import sys\nimport maquette.clip.openai\nsys.modules['clip'] = maquette.clip.openai\n"
    program = tmp_path / "program.py"
    program.write_text(f"{start}PATH = {str(archive[0])!r}\n{CLIENT}", encoding="utf-8")
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "torch.Size([1, 48])\n"), ended.stderr


def test_names_and_tokens_are_the_originals():
    # fmt: off
    assert clip.available_models() == [
        "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px",
    ]
    # fmt: on
    tokens = clip.tokenize("a cat", context_length=5)
    assert tokens.dtype == torch.int32
    assert tokens.tolist() == [[49406, 320, 2368, 49407, 0]]
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match="truncate=True"):
            clip.tokenize(["a cat " * 40])
    assert clip.tokenize(["a cat " * 40], truncate=True)[0, -1] == 49407
