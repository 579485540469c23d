"""Pictures of your own, each `NAME.jpg` (.png, .webp) with its caption in `NAME.txt`, teach GLIDE their look.

    python examples/fine_tune_glide.py pictures/ --out runs/mine
    maquette create "a red mug" --model runs/mine/model

Adapters are trained beside the model's own weights and merged into them at the end. `before_after.png` in the folder of
the run shows the first captions drawn by the model as it was and as it is then. Fifty pictures take some minutes.
"""

import argparse
import tarfile
import tempfile
from pathlib import Path

from maquette import pipeline
from maquette.diffusion.training.stage import GlideStage
from maquette.toybox.sheet import contact_sheet
from maquette.training import TrainConfig, fit

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def with_captions(folder):
    """[(picture, its caption's file)] in a folder; those without a caption are named and left out."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    for path in pictures:
        if not path.with_suffix(".txt").is_file():
            print(f"{path} has no caption, {path.with_suffix('.txt').name}; it is left out")
    found = [(path, path.with_suffix(".txt")) for path in pictures if path.with_suffix(".txt").is_file()]
    if not found:
        raise SystemExit(f"{folder} holds no pictures with captions; put NAME.txt beside each NAME.jpg")
    return found


def write_shard(pairs, path):
    """A webdataset shard: a tar in which files of one number belong together."""
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(pairs):
            for file in files:
                tar.add(file, f"{number:06d}{file.suffix.lower()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="pictures and captions")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run")
    parser.add_argument("--model", default="mini", help="a model's name or folder, to begin with")
    parser.add_argument("--epochs", type=int, default=10, help="how often each picture is seen")
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()

    pairs = with_captions(options.folder)
    batch = min(2, len(pairs))
    recipe = TrainConfig(
        steps=max(1, options.epochs * len(pairs) // batch),
        batch_size=batch,
        learning_rate=options.learning_rate,
        warmup=2,
        ema_decay=0.9,
        validation_samples=0,
        sample_every=0,
        checkpoint_every=0,
        stage={
            "start_from": options.model,
            "train": "lora",
            "lora_rank": options.rank,
            "drop_text": 0.1,
            "snr_clamp": [0.02, 5],
        },
    )
    with tempfile.TemporaryDirectory() as place:
        shard = Path(place) / "pictures.tar"
        write_shard(pairs, shard)
        model = fit(GlideStage(recipe), recipe, str(shard), options.out)

    captions = [caption.read_text(encoding="utf-8").strip() for _, caption in pairs[:8]]
    drawn = [
        picture
        for name in (options.model, model)
        for picture in pipeline("text-to-image", name)(captions, seed=0).images
    ]
    sheet = options.out / "before_after.png"
    contact_sheet(drawn, columns=len(captions), labels=captions * 2).save(sheet)
    print(f"{model}: the model\n{sheet}: above before, below after")


if __name__ == "__main__":
    main()
