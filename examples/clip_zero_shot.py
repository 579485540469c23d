"""What is in a picture, by OpenAI's interface to CLIP: the classes of a data set ranked for one of its pictures.

    python examples/clip_zero_shot.py                             # CIFAR-100, by torchvision
    python examples/clip_zero_shot.py --data pictures/            # any folder with a sub-folder for each class

A program written for github.com/openai/CLIP runs with `import clip` changed to `from maquette import clip`.
"""

import argparse
from pathlib import Path

import torch
from folder_of_classes import FolderOfClasses, cifar100
from maquette import clip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="ViT-B/32", help=f"{', '.join(clip.available_models())}, or a file"
    )
    parser.add_argument("--data", type=Path, help="a folder of classes (default: CIFAR-100)")
    parser.add_argument("--picture", type=int, default=0, help="which of its pictures to look at, from 0")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, preprocess = clip.load(options.model, device)

    data = FolderOfClasses(options.data) if options.data else cifar100("~/.cache", train=False)
    picture, class_id = data[options.picture]
    image = preprocess(picture).unsqueeze(0).to(device)
    text = torch.cat([clip.tokenize(f"a photo of a {name}") for name in data.classes]).to(device)

    with torch.no_grad():
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)
    likeness = (100.0 * image_features @ text_features.T).softmax(dim=-1)
    values, indices = likeness[0].topk(min(5, len(data.classes)))

    print(f"It is of class {data.classes[class_id]}. Likeliest by CLIP:")
    for value, index in zip(values, indices, strict=True):
        print(f"{data.classes[index]:>16s}: {100 * value.item():.2f}%")


if __name__ == "__main__":
    main()
