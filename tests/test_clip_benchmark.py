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
    """`evaluate` on one-hot labels, and its parts on labels: their `accuracy` fails with NumPy 2.4 for any model."""
    theirs, ours, pictures = models
    found = []
    for model, tokenizer in (theirs, ours):
        one_hot = [(pixels, torch.eye(len(NAMES))[label]) for pixels, label in pictures]
        metrics = zeroshot_classification.evaluate(
            model, DataLoader(one_hot, batch_size=16), tokenizer, NAMES, TEMPLATES, "cpu", amp=False
        )
        classifier = zeroshot_classification.zero_shot_classifier(
            model, tokenizer, NAMES, TEMPLATES, "cpu", amp=False
        )
        logits, target = zeroshot_classification.run_classification(
            model, classifier, DataLoader(pictures, batch_size=16), "cpu", amp=False
        )
        found.append((metrics, (logits.topk(5).indices == target[:, None]).float().mean().item()))
    assert found[0] == found[1]
    assert 0 < found[0][0]["mean_average_precision"] < 1
    assert 0 < found[0][1] < 1


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


def test_linear_probe(models, monkeypatch):
    """What `evaluate` is made of, which itself refuses every device but a GPU: features, training, reading."""
    (theirs, _), (ours, _), pictures = models
    for kind in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(kind, "cuda", lambda self: self)
    accuracies = []
    for model in (theirs, ours):
        batches = DataLoader(pictures, batch_size=16)
        with torch.no_grad():
            features = torch.cat([linear_probe.Featurizer(model)(pixels) for pixels, _ in batches])
        labels = torch.tensor([label for _, label in pictures])
        loader = DataLoader(linear_probe.FeatureDataset(features, labels), batch_size=16)
        sizes = {"input_shape": features.shape[1], "output_shape": len(NAMES)}
        probe = linear_probe.train(
            loader, **sizes, weight_decay=0, lr=0.1, epochs=20, amp=False, device="cpu", seed=0
        )
        logits, target = linear_probe.infer(probe, loader, False, "cpu")
        accuracies.append((logits.argmax(1) == target).float().mean().item())
    assert accuracies[0] == accuracies[1]
    assert accuracies[0] > 0.5
