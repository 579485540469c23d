"""How fast CLIP is here beside open_clip and transformers: the same sizes, random weights, one run.

    python benchmarks/clip.py                       # ViT-L/14, ViT-B/32 and SigLIP's ViT-B/16 (images), batch 8
    python benchmarks/clip.py --models ViT-B/32 --rounds 3

Every contender runs in its turn, round after round, and its fastest round counts;
"texts" are captions of a dozen tokens, padded to 77 as tokenizers do, "long texts" fill all 77. Prints a table and
one line of JSON.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

SIZES = {
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-B/32": "ViT-B-32-quickgelu",
    "SigLIP ViT-B/16": "ViT-B-16-SigLIP",
}
FORMATS = {"float32": torch.float32, "bf16": torch.bfloat16}
CAPTION = "a photo of a red chair on top of a small blue table"


def contenders(name: str, dtype: torch.dtype, prefix: str):
    """(who, image function, text function) of the peers in one format, with the random weights as a state dict."""
    import open_clip
    from transformers import CLIPConfig, CLIPModel

    theirs = open_clip.create_model(SIZES[name], pretrained=None).eval()
    weights = {key: value for key, value in theirs.state_dict().items() if key != "attn_mask"}
    theirs = theirs.to(dtype)
    yield f"open_clip {prefix}", theirs.encode_image, theirs.encode_text, weights
    if "SigLIP" in name:  # the bar is open_clip's fastest
        return
    visual = theirs.visual
    config = CLIPConfig(
        text_config={
            "hidden_size": theirs.ln_final.weight.shape[0],
            "intermediate_size": 4 * theirs.ln_final.weight.shape[0],
            "num_attention_heads": theirs.ln_final.weight.shape[0] // 64,
            "num_hidden_layers": len(theirs.transformer.resblocks),
            "eos_token_id": 49407,
        },
        vision_config={
            "hidden_size": visual.conv1.weight.shape[0],
            "intermediate_size": 4 * visual.conv1.weight.shape[0],
            "num_attention_heads": visual.conv1.weight.shape[0] // 64,
            "num_hidden_layers": len(visual.transformer.resblocks),
            "patch_size": visual.conv1.weight.shape[-1],
            "image_size": 224,
        },
        projection_dim=theirs.text_projection.shape[1],
    )
    them = CLIPModel(config).to(dtype).eval()
    yield (
        f"transformers {prefix}",
        lambda pixels: them.get_image_features(pixel_values=pixels),
        lambda tokens: them.get_text_features(input_ids=tokens),
        None,
    )


def ours(weights: Path, name: str, dtype: torch.dtype | str):
    """As users load a checkpoint's file, in a format or in the default one."""
    from maquette.clip import ClipEncoder
    from maquette.clip.open_clip_names import open_clip_config
    from maquette.layers import prepare
    from maquette.layers.precision import best_dtype
    from maquette.weights import read_weights

    # As ClipModel.from_pretrained does, without the tokenizer, which for SigLIP is downloaded.
    net = ClipEncoder.from_original(read_weights(weights), open_clip_config(SIZES[name]).encoder())
    format = best_dtype(torch.device("cpu")) if dtype == "auto" else dtype
    net = prepare(net.to(format), approximate=dtype == "auto")
    return (
        lambda pixels: net.encode_image(pixels, with_grid=False).vector,
        lambda tokens: net.encode_text(tokens, with_states=False).vector,
        lambda pixels: net.encode_image(pixels).grid,
    )


def fastest(functions: dict, inputs: dict, rounds: int) -> dict[str, float]:
    """Seconds of each function's fastest call, all in turn in every round; the first round only warms up."""
    seconds = {}
    for number in range(rounds + 1):
        for who, function in functions.items():
            began = time.perf_counter()
            function(inputs[who])
            if number:
                seconds[who] = min(seconds.get(who, 1e9), time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="the peers' formats"
    )
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    from maquette.clip import ClipTokenizer
    from maquette.layers.int16_product import Int16Product
    from maquette.layers.precision import best_dtype

    default = best_dtype(torch.device("cpu"))
    through = " through int16" if default == torch.float32 and Int16Product.pays() else ""
    chosen = f"default ({'bf16' if default == torch.bfloat16 else 'float32'}{through})"
    tokenize = ClipTokenizer.openai()
    tokens = {
        "texts": tokenize([CAPTION] * args.batch),
        "long texts": tokenize([f"{CAPTION} " * 9] * args.batch, truncate=True),
    }
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores; ours: {chosen}"
    )
    results = {}
    for name in args.models:
        image, text, weights = {}, {}, {}
        for label in args.formats:
            for who, encode_image, encode_text, found in contenders(name, FORMATS[label], label):
                image[who], text[who], weights = encode_image, encode_text, found or weights
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pt"
            torch.save(weights, file)
            for label, dtype in {chosen: "auto", "float32": torch.float32}.items():
                image[f"maquette {label}"], text[f"maquette {label}"], grid = ours(file, name, dtype)
                if label == chosen:
                    image[f"maquette {label}, with grid"] = grid
        format_of = {who: FORMATS["bf16" if "bf16" in who else "float32"] for who in image}
        pixels = torch.randn(args.batch, 3, 224, 224)
        runs = {"images": (image, {who: pixels.to(format_of[who]) for who in image})}
        if "SigLIP" not in name:
            runs |= {what: (text, dict.fromkeys(text, ids)) for what, ids in tokens.items()}
        for what, (functions, inputs) in runs.items():
            seconds = fastest(functions, inputs, args.rounds)
            peer = min(s for who, s in seconds.items() if not who.startswith("maquette"))
            print(f"\n{name}, {args.batch} {what}")
            for who, s in sorted(seconds.items(), key=lambda item: item[1]):
                print(
                    f"  {who:46} {s:8.3f} s  {args.batch / s:8.2f} a second  {peer / s:5.2f} x the fastest peer"
                )
            results[f"{name} {what}"] = {who: round(args.batch / s, 3) for who, s in seconds.items()}
            results[f"{name} {what}"]["ratio"] = round(peer / seconds[f"maquette {chosen}"], 3)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
