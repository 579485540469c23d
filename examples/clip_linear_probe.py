"""How much a linear classifier reads off CLIP's image vectors, by OpenAI's interface and scikit-learn.

    python examples/clip_linear_probe.py                          # CIFAR-100, by torchvision
    python examples/clip_linear_probe.py --data pictures/         # with train/ and test/, folders of classes, in it

A program written for github.com/openai/CLIP runs with `import clip` changed to `from maquette import clip`.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from folder_of_classes import FolderOfClasses, cifar100
from maquette import clip
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader
from tqdm import tqdm


def features_and_labels(model, dataset, device):
    """The vectors [N, D] of a data set's pictures, and their classes [N], as arrays."""
    features, labels = [], []
    with torch.no_grad():
        for images, targets in tqdm(DataLoader(dataset, batch_size=100)):
            features.append(model.encode_image(images.to(device)))
            labels.append(targets)
    return torch.cat(features).float().cpu().numpy(), torch.cat(labels).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="ViT-B/32", help=f"{', '.join(clip.available_models())}, or a file"
    )
    parser.add_argument("--data", type=Path, help="a folder with train/ and test/ (default: CIFAR-100)")
    parser.add_argument("--C", type=float, default=0.316, help="the inverse strength of the regularisation")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, preprocess = clip.load(options.model, device)

    if options.data:
        train, test = (FolderOfClasses(options.data / part, preprocess) for part in ("train", "test"))
    else:
        train, test = (cifar100("~/.cache", part, transform=preprocess) for part in (True, False))
    train_features, train_labels = features_and_labels(model, train, device)
    test_features, test_labels = features_and_labels(model, test, device)

    # C is best chosen on pictures kept apart from both.
    classifier = LogisticRegression(random_state=0, C=options.C, max_iter=1000)
    classifier.fit(train_features, train_labels)
    accuracy = np.mean(classifier.predict(test_features) == test_labels) * 100
    print(f"Accuracy = {accuracy:.3f}")


if __name__ == "__main__":
    main()
