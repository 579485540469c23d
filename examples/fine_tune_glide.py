"""Pictures of your own, each `NAME.jpg` (.png, .webp, …) with its caption in `NAME.txt`, teach GLIDE their look.

    python examples/fine_tune_glide.py pictures/ --out runs/mine
    maquette create "a red mug" --model runs/mine/model

Folders in the folder are looked through too. Adapters are trained beside the model's own weights and merged into them
at the end. `before_after.png` in the folder of the run shows the first captions drawn by the model as it was and as it
is then. Fifty pictures take some minutes. After Ctrl-C the same command with --resume goes on.
"""

import argparse
import sys
import tarfile
import tempfile
from pathlib import Path

from maquette import pipeline
from maquette.clip import open_picture
from maquette.diffusion.training.stage import GlideStage
from maquette.toybox.sheet import contact_sheet
from maquette.training import TrainConfig, fit
from maquette.training.shards import add_sample

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def with_captions(folder, side):
    """[(picture as a shard keeps it, its caption)] of a folder; what cannot be learned from is named and left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            try:
                found.append((kept(path, side), caption_of(path)))
            except (OSError, ValueError) as error:
                print(f"left out {path}: {error}", file=sys.stderr)
    if not found:
        raise SystemExit(f"{folder} holds no pictures with captions; put NAME.txt beside each NAME.jpg")
    return found


def caption_of(path):
    place = next((place for end in (".txt", ".TXT") if (place := path.with_suffix(end)).is_file()), None)
    if place is None:
        raise ValueError(f"it has no caption, {path.with_suffix('.txt').name}")
    if not (caption := place.read_text(encoding="utf-8-sig").strip()):
        raise ValueError(f"its caption, {place.name}, is empty")
    return caption


def kept(path, side):
    picture = open_picture(path)
    if min(picture.size) < side:
        raise ValueError(
            f"it has {picture.width}×{picture.height} pixels, and {side}×{side} are learned from"
        )
    return {path.suffix.lower()[1:]: path.read_bytes()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="pictures and captions")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the run")
    parser.add_argument("--model", default="mini", help="a model's name or folder, to begin with")
    parser.add_argument("--epochs", type=int, default=10, help="how often each picture is seen")
    parser.add_argument("--rank", type=int, default=16, help="of the adapters")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--resume", action="store_true", help="go on where Ctrl-C stopped it")
    options = parser.parse_args()

    before = pipeline("text-to-image", options.model)
    pairs = with_captions(options.folder, before.unet.config["image_size"])
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
        with tarfile.open(shard, "w") as tar:
            for number, (picture, caption) in enumerate(pairs):
                add_sample(tar, f"{number:06d}", {**picture, "txt": caption.encode()})
        try:
            model = fit(GlideStage(recipe), recipe, str(shard), options.out, options.resume)
        except KeyboardInterrupt as stop:
            print(stop, file=sys.stderr)
            raise SystemExit(130) from None
        except (OSError, ValueError) as error:  # such as a folder in use, or other pictures than before
            raise SystemExit(str(error)) from None

    captions = [caption for _, caption in pairs[:8]]
    after = pipeline("text-to-image", model)
    drawn = [picture for pipe in (before, after) for picture in pipe(captions, seed=0).images]
    sheet = options.out / "before_after.png"
    contact_sheet(drawn, columns=len(captions), labels=captions * 2).save(sheet)
    print(f"{model}: the model\n{sheet}: above before, below after")


if __name__ == "__main__":
    main()
