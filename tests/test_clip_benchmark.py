"""clip-benchmark's functions on our model, unchanged: the metrics are those of open_clip's of the same weights."""

import colorsys

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import linear_probe, zeroshot_classification, zeroshot_retrieval
from maquette import clip
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg, SimpleTokenizer
from PIL import Image
from torch.utils.data import DataLoader

NAMES = ["red", "yellow", "green", "cyan", "blue", "pink"]
TEMPLATES = ["a photo of {c}.", "{c}"]


class Pictures(list):
    """(pixels, class) of noisy pictures, eight of each of six colours."""

    classes = NAMES

    def __init__(self, preprocess):
        random = np.random.default_rng(0)
        for number in range(48):
            colour = np.multiply(colorsys.hsv_to_rgb(number % 6 / 6, 0.8, 0.9), 255)
            noisy = random.normal(colour, 60, (40, 50, 3)).clip(0, 255).astype(np.uint8)
            self.append((preprocess(Image.fromarray(noisy)), number % 6))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(open_clip's, its tokenizer), (ours, our tokenizer) and the pictures."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = CLIPVisionCfg(layers=2, width=128, patch_size=16, image_size=32)
        theirs = CLIP(64, vision, CLIPTextCfg(width=64, heads=1, layers=2), quick_gelu=True).eval()
    path = tmp_path_factory.mktemp("benchmark") / "model.pt"
    torch.save(theirs.state_dict(), path)
    ours, preprocess = clip.load(path, device="cpu")
    return (theirs, SimpleTokenizer()), (ours, clip.tokenize), Pictures(preprocess)


def test_zero_shot(models):
    theirs, ours, pictures = models
    metrics = [
        zeroshot_classification.evaluate(
            model, DataLoader(pictures, batch_size=16), tokenizer, NAMES, TEMPLATES, "cpu", amp=False
        )
        for model, tokenizer in (theirs, ours)
    ]
    assert metrics[0] == metrics[1]
    assert {"acc1", "acc5", "mean_per_class_recall"} == metrics[0].keys()
    assert 0 < metrics[0]["acc5"] < 1


def captioned(batch):
    return torch.stack([pixels for pixels, _ in batch]), [
        [f"{i} {NAMES[label]} things", f"number {i}"] for i, (_, label) in enumerate(batch)
    ]


def test_retrieval(models):
    theirs, ours, pictures = models
    metrics = [
        zeroshot_retrieval.evaluate(
            model,
            DataLoader(pictures[:12], batch_size=6, collate_fn=captioned),
            tokenizer,
            "cpu",
            amp=False,
            recall_k_list=[1, 5],
        )
        for model, tokenizer in (theirs, ours)
    ]
    assert metrics[0] == metrics[1]
    assert 0 < metrics[0]["image_retrieval_recall@5"] < 1


def test_linear_probe_reads_the_same_features(models):
    """Its training asks for a GPU; the features are computed anywhere."""
    (theirs, _), (ours, _), pictures = models
    pixels = torch.stack([pixels for pixels, _ in pictures])
    with torch.no_grad():
        features = [linear_probe.Featurizer(model)(pixels) for model in (theirs, ours)]
    assert torch.allclose(features[0], features[1], atol=1e-5)


@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="clip-benchmark trains its linear probe on a GPU only"
)
def test_linear_probe(models, tmp_path):
    (theirs, _), (ours, _), pictures = models
    loader = DataLoader(pictures, batch_size=16)
    metrics = [
        linear_probe.evaluate(
            model, loader, loader, -1, 16, 0, 0.1, 10, name, 0, str(tmp_path), "cuda", amp=False
        )
        for name, model in (("theirs", theirs), ("ours", ours))
    ]
    assert metrics[0] == metrics[1]
    assert metrics[0]["lp_acc1"] > 0.5
