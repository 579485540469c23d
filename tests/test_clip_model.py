"""ClipModel: the whole CLIP from a folder, a file or a name, and vectors that do not depend on the batch."""

import pytest
import torch
from conftest import GOLDENS
from goldens.formula import formula_state_dict
from maquette.clip import ClipModel
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
    assert torch.equal(again.embed_texts(texts), model.embed_texts(texts))
    assert again.logit_scale == pytest.approx(model.logit_scale)
    assert not any(p.requires_grad for p in again.encoder.parameters())


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
    model = ClipModel.from_pretrained(tmp_path / "tiny.safetensors", dtype=torch.float32)
    assert model.embed_images([Image.new("RGB", (9, 9))]).shape == (1, 48)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("ViT-L/15", ValueError, "did you mean 'ViT-L.14'"),
        ("min", ValueError, "did you mean 'mini'"),
        ("nowhere.pt", FileNotFoundError, "nowhere.pt"),
        ("no/such/folder", FileNotFoundError, "no/such/folder"),
        (str(GOLDENS), FileNotFoundError, "config.json is missing"),
        (str(GOLDENS / "clip" / "vit_tiny.safetensors"), ValueError, "no CLIP"),
        (str(GOLDENS / "clip" / "vit_tiny.json"), ValueError, "vit_tiny.json"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_sentence(name, error, says):
    with pytest.raises(error, match=says) as caught:
        ClipModel.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_damaged_folder_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="holds no whole CLIP"):
        ClipModel.from_pretrained(tmp_path)
