"""open_clip's names, over its own tables; its Hub is a real server on loopback."""

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError
from maquette.clip import ClipEncoder, ClipModel, ClipTokenizer
from maquette.clip.hub import hub_file, hub_folder
from maquette.clip.open_clip_config import OpenClipConfig, read_config
from maquette.clip.open_clip_names import (
    find_open_clip,
    open_clip_config,
    open_clip_millions,
    open_clip_names,
)
from maquette.clip.open_clip_tokenizer import tokenizer_of
from maquette.weights import cached_path, read_weights
from open_clip import get_pretrained_cfg
from safetensors.torch import save

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 16,
        "layers": 1,
        "width": 32,
        "patch_size": 8,
        "head_width": 16,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {"context_length": 8, "vocab_size": 40, "width": 32, "heads": 2, "layers": 1},
    "init_logit_bias": -10,
    "quick_gelu": True,
}
PREPARED = {
    "size": 16,
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """path -> content of a Hub, None: it fails; what is missing is missing as there."""
    files = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.strip("/"))
            known = any(path.split("/resolve/")[0] in self.path for path in files)
            fails = content is None and self.path.strip("/") in files
            self.send_response(403 if fails else 404 if content is None else 200)
            if content is None and not fails:
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{abs(hash(content)):x}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET" and content:
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("MAQUETTE_OFFLINE", raising=False)
    yield files
    server.shutdown()
    server.server_close()


def test_every_name_resolves_without_the_network(monkeypatch):
    def refused(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    configs = {name: open_clip_config(name) for name in open_clip_names()}
    assert len(configs) >= 196
    for name, config in configs.items():
        assert config.pictures()["embed_dim"] > 0 and config.pictures()["image_resolution"] >= 224
        assert open_clip_millions(name) > 10
    ours = {name for name, config in configs.items() if config.ours}
    assert sum("SigLIP" in name for name in ours) >= 25 and len(ours) >= 121
    for name in ours:
        if "SigLIP" not in name:
            assert set(configs[name].encoder()) <= set(signature(ClipEncoder).parameters)
    with pytest.warns(UserWarning) as said:
        for config in configs.values():
            config.warn_of_activation()
    assert len(said) == 18
    assert str(said[0].message).endswith("RN50-quickgelu/yfcc15m computes what it was trained with")


def test_the_activation_is_the_names_as_in_open_clip():
    for name, activation in {
        "ViT-B-32/laion400m_e32": "gelu",
        "ViT-B-32-quickgelu/laion400m_e32": "quick_gelu",
        "ViT-B-32/openai": "quick_gelu",
        "ViT-B-16-SigLIP2-512/webli": "gelu",
        "ViT-L-16-SigLIP2-512/webli": "gelu_tanh",
    }.items():
        assert open_clip_config(name).encoder()["activation"] == activation
    # A folder may be called like OpenAI's weights and hold others.
    table = open_clip_config("ViT-B-32/laion400m_e32")
    assert OpenClipConfig("models/openai", table.model, {}).encoder()["activation"] == "gelu"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", (512, 224, 12, 768, 32, 64, None, 512, 8, 12, "gelu")),
        ("ViT-B-32/openai", (512, 224, 12, 768, 32, 64, None, 512, 8, 12, "quick_gelu")),
        ("ViT-B-32-quickgelu/metaclip-400M", (512, 224, 12, 768, 32, 64, None, 512, 8, 12, "quick_gelu")),
        ("ViT-H-14/laion2b_s32b_b79k", (1024, 224, 32, 1280, 14, 80, None, 1024, 16, 24, "gelu")),
        ("ViT-bigG-14/laion2b_s39b_b160k", (1280, 224, 48, 1664, 14, 104, 8192, 1280, 20, 32, "gelu")),
        ("RN50/openai", (1024, 224, [3, 4, 6, 3], 64, None, 64, None, 512, 8, 12, "quick_gelu")),
    ],
)
def test_architectures(name, expected):
    config = open_clip_config(name).encoder()
    keys = (
        "embed_dim",
        "image_resolution",
        "vision_layers",
        "vision_width",
        "vision_patch_size",
        "vision_head_width",
    )
    keys += ("vision_mlp_width", "transformer_width", "transformer_heads", "transformer_layers", "activation")
    assert tuple(config[key] for key in keys) == expected
    assert (config["context_length"], config["vocab_size"], config["sigmoid"]) == (77, 49408, False)
    assert config["interpolation"] == "bicubic" and len(config["image_mean"]) == 3


def test_settings_of_openais_tokenizer_are_refused():
    with pytest.raises(ValueError, match="without hf_tokenizer_name are not known"):
        tokenizer_of({"tokenizer_kwargs": {"clean": "whitespace"}})


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no weights for 'ViT-B-33' \(did you mean 'ViT-B-32'\?\)"):
        find_open_clip("ViT-B-33/openai")
    with pytest.raises(ValueError, match=r"did you mean 'laion2b_s32b_b82k'.*known are ViT-L-14/openai, "):
        find_open_clip("ViT-L-14/laion2b_s32b_b82")
    with pytest.raises(ValueError, match="names no repository of the Hub; expected hf-hub:org/name"):
        hub_folder("hf-hub:name")


def test_a_repository_of_the_hub(hub, monkeypatch):
    weights = {"visual.proj": torch.ones(32, 16)}
    hub["me/tiny/resolve/main/open_clip_config.json"] = json.dumps(
        {"model_cfg": MODEL, "preprocess_cfg": PREPARED}
    ).encode()
    hub["me/tiny/resolve/main/open_clip_model.safetensors"] = save(weights)
    folder = hub_folder("hf-hub:me/tiny")
    config = read_config("tiny", folder / "open_clip_config.json").encoder()
    assert torch.equal(
        read_weights(folder / "open_clip_model.safetensors")["visual.proj"], weights["visual.proj"]
    )
    assert (config["vision_mlp_width"], config["sigmoid"], config["activation"]) == (
        64,
        True,
        "quick_gelu",
    )
    assert (config["resize_mode"], config["image_std"]) == ("squash", [0.25] * 3)
    ClipEncoder(**config)

    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    assert hub_folder("hf-hub:me/tiny") == folder
    with pytest.raises(LocalEntryNotFoundError):
        hub_folder("hf-hub:me/other")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_repository_of_transformers(hub, tmp_path, weights, monkeypatch):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    theirs = CLIPModel(CLIPConfig(text_config=sizes, vision_config=vision, projection_dim=8))
    theirs.save_pretrained(tmp_path / "saved")
    side = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=side, image_std=[0.4] * 3).save_pretrained(
        tmp_path / "saved"
    )
    ClipTokenizer.openai().save(tmp_path / "saved" / "tokenizer.json")
    if weights.endswith(".bin"):
        (tmp_path / "saved" / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "saved" / weights)
    for path in (tmp_path / "saved").iterdir():
        hub[f"me/tiny/resolve/main/{path.name}"] = path.read_bytes()
    ours = ClipModel.from_pretrained("hf-hub:me/tiny", dtype=torch.float32)
    assert ours.preprocess.std == (0.4, 0.4, 0.4)
    with torch.no_grad():
        found = theirs.get_text_features(ours.tokenizer("a red chair")).pooler_output
    found = torch.nn.functional.normalize(found, dim=-1)
    torch.testing.assert_close(ours.embed_texts("a red chair"), found, rtol=0, atol=1e-5)
    folder = hub_folder("hf-hub:me/tiny")
    monkeypatch.setenv("MAQUETTE_OFFLINE", "1")
    shutil.rmtree(folder.parents[1] / ".no_exist")  # as a cache is that was filled by others
    assert hub_folder("hf-hub:me/tiny") == folder
    for needed in ("tokenizer.json", "preprocessor_config.json"):
        file = (folder / needed).rename(tmp_path / needed)
        with pytest.raises(LocalEntryNotFoundError):
            hub_folder("hf-hub:me/tiny")
        file.rename(folder / needed)


def test_a_file_that_cannot_be_fetched_is_not_taken_for_one_that_is_not_there(hub, monkeypatch):
    hub["me/tiny/resolve/main/config.json"] = (
        b'{"model_type": "clip", "text_config": {}, "vision_config": {}}'
    )
    hub["me/tiny/resolve/main/preprocessor_config.json"] = None
    with pytest.raises(LocalEntryNotFoundError, match="check your connection"):
        hub_folder("hf-hub:me/tiny")
    hub["me/tiny/resolve/main/first"], hub["me/tiny/resolve/main/second"] = None, b"another"
    with pytest.raises(LocalEntryNotFoundError, match="check your connection"):
        hub_file("me/tiny", ("first", "second"))
    del hub["me/tiny/resolve/main/first"]
    path = hub_file("me/tiny", ("first", "second"))
    hub.clear()
    hub["me/tiny/resolve/main/first"] = hub["me/tiny/resolve/main/second"] = None
    assert hub_file("me/tiny", ("first", "second")) == path


def test_the_hub_where_the_table_points(hub):
    path = get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"]
    hub[f"{path}resolve/main/open_clip_pytorch_model.bin"] = b"older than safetensors"
    found, config = find_open_clip("ViT-B-32/laion2b_s34b_b79k")
    assert found.read_bytes() == b"older than safetensors" and config.encoder()["embed_dim"] == 512


def test_openais_weights_are_the_published_files(hub, monkeypatch):
    url = get_pretrained_cfg("ViT-B-32", "openai")["url"]
    place = cached_path(url, url.split("/")[-2])
    place.parent.mkdir()
    place.write_bytes(b"already here")
    assert find_open_clip("ViT-B-32/openai")[0] == place


def test_another_kind_of_transformers_is_refused_before_its_weights_are_fetched(hub):
    hub["me/tiny/resolve/main/config.json"] = b'{"model_type": "siglip"}'
    with pytest.raises(ValueError, match="hf-hub:me/tiny holds a model of transformers of the kind 'siglip'"):
        hub_folder("hf-hub:me/tiny")


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (None, RepositoryNotFoundError, "me/tiny"),
        (b"{", json.JSONDecodeError, "Expecting property name"),
        (b"{}", ValueError, "describes no CLIP: its model_cfg lacks embed_dim, text_cfg, vision_cfg"),
        (json.dumps({"model_cfg": MODEL}).encode(), EntryNotFoundError, "open_clip_pytorch_model.bin"),
    ],
)
def test_bad_repositories(hub, config, error, said):
    if config is not None:
        hub["me/tiny/resolve/main/open_clip_config.json"] = config
    with pytest.raises(error, match=said):
        ClipModel.from_pretrained("hf-hub:me/tiny")
