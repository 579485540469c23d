"""ClipModel: the whole CLIP from a folder, a file or a name, and vectors that do not depend on the batch."""

import json

import pytest
import torch
from conftest import GOLDENS
from goldens.formula import formula_state_dict
from maquette.clip import ClipEncoder, ClipModel, ClipTokenizer, Preprocess
from maquette.layers.int16_product import Int16Product
from PIL import Image
from safetensors.torch import save_file
from tiny_models import tiny_clip


@pytest.fixture(scope="module")
def model():
    return tiny_clip()


def test_a_folder_holds_all_of_it(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = ClipModel.from_pretrained(tmp_path, dtype=torch.float32)
    texts = ["a red chair", "two words", ""]
    torch.testing.assert_close(again.embed_texts(texts), model.embed_texts(texts))
    assert again.logit_scale == pytest.approx(model.logit_scale)
    assert not any(p.requires_grad for p in again.encoder.parameters())
    again.save_pretrained(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "encoder" / "config.json").read_text()


def test_vectors_keep_the_order_and_do_not_depend_on_the_batch(model, tmp_path):
    pictures = [Image.new("RGB", (40 + 7 * i, 50), (20 * i, 90, 255 - 20 * i)) for i in range(5)]
    pictures[3].save(tmp_path / "three.png")
    alone = torch.cat([model.embed_images([picture]) for picture in pictures])
    together = model.embed_images(iter([*pictures[:3], tmp_path / "three.png", pictures[4]]), batch_size=3)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    texts = ["a", "a small shiny blue car behind a green tree", "", "a red chair", "a"]
    alone = torch.cat([model.embed_texts([text]) for text in texts])
    torch.testing.assert_close(alone, model.embed_texts(texts, batch_size=2), rtol=0, atol=1e-5)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(5))
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, model.dim)


def test_a_checkpoint_file_loads_by_its_path(golden, tmp_path):
    manifest, _ = golden("clip/vit_tiny")
    save_file(formula_state_dict(manifest["weights"], manifest["salt"]), tmp_path / "tiny.safetensors")
    with pytest.warns(UserWarning, match=r"is read as one of OpenAI's .* open_clip_config.json beside it"):
        model = ClipModel.from_pretrained(tmp_path / "tiny.safetensors", dtype=torch.float32)
    assert model.embed_images([Image.new("RGB", (9, 9))]).shape == (1, 48)


@pytest.mark.filterwarnings("error")
def test_a_file_of_open_clips_is_read_as_what_it_is(tmp_path):
    layout = {"vision_layers": 1, "vision_width": 64, "vision_patch_size": 8, "image_resolution": 16}
    layout |= {"embed_dim": 16, "transformer_width": 64, "transformer_layers": 1, "vocab_size": 49408}
    told = {"vision_head_width": 32, "transformer_heads": 2, "activation": "gelu", "image_mean": [0.5] * 3}
    encoder = ClipEncoder(**layout, **told).eval()
    path = tmp_path / "open_clip_model.safetensors"
    save_file(encoder.state_dict(), path)
    picture = Image.effect_noise((20, 20), 90).convert("RGB")

    by_argument = ClipModel.from_pretrained(path, config=encoder.config, dtype=torch.float32)
    with pytest.raises(UserWarning, match="OpenAI's"):
        ClipModel.from_pretrained(path)
    towers = {
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8, "head_width": 32},
        "text_cfg": {"width": 64, "heads": 2, "layers": 1},
    }
    content = {"model_cfg": {"embed_dim": 16, **towers}, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    by_file = ClipModel.from_pretrained(path, dtype=torch.float32)
    expected = encoder(by_file.preprocess(picture)[None], by_file.tokenizer(["a cat"]))
    for model in (by_argument, by_file):
        assert {key: model.encoder.config[key] for key in told} == told
        torch.testing.assert_close(model.embed_images(picture), expected[0].detach())
        torch.testing.assert_close(model.embed_texts("a cat"), expected[1].detach())


def test_the_config_of_a_file_can_be_a_name_of_open_clips(model, tmp_path):
    """The sizes do not fit this file, which shows that they are the name's."""
    path = tmp_path / "own.safetensors"
    save_file(model.encoder.state_dict(), path)
    for name in ("ViT-H-14/laion2b_s32b_b79k", "ViT-H-14"):
        with pytest.raises(ValueError, match=r"do not fit ClipEncoder: .*resblocks\.2\..* and 680 more"):
            ClipModel.from_pretrained(path, config=name)
    with pytest.raises(ValueError, match="no weights for 'ViT-H-15'"):
        ClipModel.from_pretrained(path, config="ViT-H-15/laion2b_s32b_b79k")
    with pytest.raises(ValueError, match=r"unknown config key 'activatoin' \(did you mean 'activation'"):
        ClipModel.from_pretrained(path, config={"activatoin": "gelu"})
    with pytest.raises(ValueError, match="config goes with the path of a file"):
        ClipModel.from_pretrained("mini", config="ViT-H-14")


def test_one_picture_or_text_is_taken_for_one(model, tmp_path):
    picture = Image.new("RGB", (40, 50), (200, 30, 30))
    picture.save(tmp_path / "red.png")
    for one in (picture, tmp_path / "red.png", str(tmp_path / "red.png")):
        assert torch.equal(model.embed_images(one), model.embed_images([picture]))
    for text in ("a red chair", ""):
        assert torch.equal(model.embed_texts(text), model.embed_texts([text]))


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("ViT-L/15", ValueError, "did you mean 'ViT-L.14'"),
        ("min", ValueError, "did you mean 'mini'"),
        ("runs/mini", ValueError, "no file or folder 'runs/mini', and no model of that name"),
        ("openai/clip-vit-base-patch16", ValueError, "the Hub such as hf-hub:openai/clip-vit-base-patch32"),
        ("ViT-B-33/laion2b_s34b_b79k", ValueError, "did you mean 'ViT-B-32/laion2b_s34b_b79k'"),
        ("ViT-B-32/laion2b_s34b_b79", ValueError, "no weights 'laion2b_s34b_b79' for ViT-B-32"),
        ("nowhere.pt", FileNotFoundError, "nowhere.pt"),
        ("no/such/folder", FileNotFoundError, "no/such/folder"),
        (str(GOLDENS), FileNotFoundError, "not a model's folder"),
        (str(GOLDENS / "clip" / "vit_tiny.safetensors"), ValueError, "no CLIP"),
        (str(GOLDENS / "clip" / "vit_tiny.json"), ValueError, "vit_tiny.json"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_sentence(name, error, says):
    with pytest.raises(error, match=says) as caught:
        ClipModel.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_damaged_folder_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = tmp_path / "encoder" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="is not what was saved"):
        ClipModel.from_pretrained(tmp_path)


def test_weights_of_another_network_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = tmp_path / "encoder" / "config.json"
    config.write_text(config.read_text().replace('"vision_layers": 2', '"vision_layers": 3'))
    (tmp_path / "encoder" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"do not fit ClipEncoder: visual\.transformer\.resblocks\.2"):
        ClipModel.from_pretrained(tmp_path)


def test_only_the_default_format_goes_through_int16(monkeypatch):
    if not Int16Product.works():
        pytest.skip("int16_product.c was not compiled, or this CPU has no AVX2")
    monkeypatch.setattr(Int16Product, "pays", lambda: True)
    monkeypatch.setattr("maquette.layers.precision.best_dtype", lambda device: torch.float32)
    for dtype, through in (("auto", True), (torch.float32, False)):
        encoder = ClipModel.from_pretrained("mini", dtype=dtype, device="cpu").encoder
        product = encoder.transformer.resblocks[0].attn.c_qkv.product
        assert isinstance(product, Int16Product) == through


def test_a_folder_of_transformers(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    text = {**sizes, "eos_token_id": 49407, "bos_token_id": 49406, "hidden_act": "gelu"}
    config = CLIPConfig(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    theirs = CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path)
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.4] * 3
    )
    said = {**processor.to_dict(), "resample": 2}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": said}))
    ClipTokenizer.openai().save(tmp_path / "tokenizer.json")
    ours = ClipModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert (ours.encoder.config["activation"], ours.encoder.config["text_activation"]) == (
        "quick_gelu",
        "gelu",
    )
    assert ours.preprocess == Preprocess(32, (0.5,) * 3, (0.4,) * 3, "bilinear")
    picture = Image.effect_noise((40, 50), 90).convert("RGB")
    tokens = ours.tokenizer(["a red chair", "a table"])
    with torch.no_grad():
        found = theirs(tokens, ours.preprocess(picture)[None])
    torch.testing.assert_close(ours.embed_images(picture), found.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        ours.embed_texts(["a red chair", "a table"]), found.text_embeds, rtol=0, atol=1e-5
    )
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    for other in (
        {"size": {"shortest_edge": 40}},
        {"crop_size": {"height": 24, "width": 24}},
        {"do_normalize": False},
        {"do_center_crop": False},
        {"resample": 0},
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, **other}))
        with pytest.raises(ValueError, match="prepares pictures in a way"):
            ClipModel.from_pretrained(tmp_path)
    squashed = {**said, "size": side, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(squashed))
    assert ClipModel.from_pretrained(tmp_path).preprocess.resize_mode == "squash"
    (tmp_path / "preprocessor_config.json").unlink()
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["layer_norm_eps"] = 1e-2
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"layer_norm_eps 0\.01"):
        ClipModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="lie in several files"):
        ClipModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="of the kind 'bert'; only CLIPModel"):
        ClipModel.from_pretrained(tmp_path)
