"""Thousands of damaged files of each kind, and what becomes of them: each is to be refused in one sentence or harmless.

    python benchmarks/fuzz.py [--count 10000] [--seed 0] [--only index]

Everything happens in one process of one thread with tiny models. "harmless": what was loaded is what was saved, to the
last bit. "changed": something else was loaded without a word, which fails, but for a config without SHA256SUMS beside
it, as others write them: it has only to end well. A panic, a crash, 10 s of computing or 2 GB fail for all.
"""

import argparse
import collections
import logging
import resource
import signal
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from maquette.clip import ClipEncoder
from maquette.search.vector_table import About, Row, VectorTable
from maquette.training.shards import Shards, add_sample
from maquette.weights import read_weights
from maquette.weights.model_folder import load_part, write_model_folder

SECONDS, GIGABYTES = 10, 2
UNCHECKED = ("config.json alone",)
TINY: dict = {
    "embed_dim": 4,
    "image_resolution": 16,
    "vision_layers": 1,
    "vision_width": 16,
    "vision_patch_size": 8,
    "vision_head_width": 16,
    "context_length": 8,
    "vocab_size": 16,
    "transformer_width": 16,
    "transformer_heads": 1,
    "transformer_layers": 1,
}


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.scale = torch.nn.Linear(8, 8), torch.nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.inner(x)


def make_files(folder):
    """kind -> (the sound file, what loads it and gives something to compare)."""
    encoder = ClipEncoder(**TINY)
    for name in ("whole", "alone"):
        write_model_folder(folder / name, "ClipModel", {"encoder": encoder}, {})
    (folder / "alone" / "encoder" / "SHA256SUMS").unlink()
    torch.jit.script(Scripted()).save(folder / "script.pt")
    torch.save(Scripted().state_dict(), folder / "saved.pt")
    with tarfile.open(folder / "shard.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in range(4):
            content = bytes(range(number, number + 40))
            add_sample(tar, f"{number:05d}", {"txt": content, "png": content})
    table = VectorTable(folder / "index", About("mini", "pictures", "/pictures", bytes(64)))
    vectors = np.random.default_rng(0).standard_normal((24, 16), dtype=np.float32)
    digests = [bytes([i] * 16) for i in range(len(vectors))]
    files = [Row(f"{i}.png", i, i, digest) for i, digest in enumerate(digests)]
    table.write(files, dict(zip(digests[:20], vectors, strict=False)), dict.fromkeys(digests[20:], "broken"))

    def network(path):
        net = load_part(ClipEncoder, path.parent, torch.float32)
        return dict(net.config), values(net.state_dict())

    def weights(path):
        return values(read_weights(path))

    def samples(path):
        return [sorted(sample.items()) for sample in Shards([path])]

    def found(path):
        index = VectorTable(path)
        hits = index.nearest(np.ones(16, np.float32), 30)
        return index.about(), index.files(), index.reasons(), index.count(), hits

    part = "diffusion_pytorch_model.safetensors"
    return {
        "safetensors": (folder / "whole" / "encoder" / part, network),
        "TorchScript": (folder / "script.pt", weights),
        "torch.save": (folder / "saved.pt", weights),
        "config.json": (folder / "whole" / "encoder" / "config.json", network),
        "config.json alone": (folder / "alone" / "encoder" / "config.json", network),
        "tar": (folder / "shard.tar", samples),
        "index": (folder / "index", found),
    }


def values(weights):
    return [(name, value.dtype, value.shape, value.tolist()) for name, value in weights.items()]


def damaged(content, draw):
    """The bytes with one to three things done to them."""
    content = bytearray(content)
    for _ in range(draw.integers(1, 4)):
        first = int(draw.integers(len(content) + 1))
        some = slice(first, first + int(2 ** draw.uniform(0, 8)))
        what = draw.integers(8)
        if what < 3 and first < len(content):
            content[first] ^= 1 << int(draw.integers(8))
        elif what == 3:
            content[some] = draw.bytes(len(content[some]))
        elif what == 4:
            content[first:first] = draw.choice(list(b"0123456789[]{},-\xff\0"), draw.integers(1, 12)).tolist()
        elif what == 5:
            del content[some]
        elif what == 6:
            content[some] = bytes(len(content[some]))
        elif draw.integers(2):
            content[first:first] = content[some]
        else:
            del content[first:]
    return bytes(content)


def outcome(load, path, sound):
    """What became of the file, and what was said."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return ("harmless" if load(path) == sound else "changed"), ""
    except (TimeoutError, MemoryError) as error:
        return "failed", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "refused", f"{type(error).__name__}: {' '.join(str(error).split())}"
    except BaseException as error:  # a panic of Rust is none of Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return "failed", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def too_long(*_):
    raise TimeoutError(f"more than {SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one kind")
    parser.add_argument("--sentences", type=int, default=0, help="show so many of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable()  # diffusers says which keys of a config it passes over
    signal.signal(signal.SIGPROF, too_long)
    resource.setrlimit(resource.RLIMIT_DATA, (2 * GIGABYTES * 2**30,) * 2)
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        for number, (kind, (path, load)) in enumerate(make_files(Path(place)).items()):
            if options.only not in (None, kind):
                continue
            content, sound = path.read_bytes(), load(path)
            draw, counts, said = np.random.default_rng([options.seed, number]), collections.Counter(), {}
            for _ in range(options.count):
                path.write_bytes(damaged(content, draw))
                what, sentence = outcome(load, path, sound)
                counts[what] += 1
                said.setdefault(f"{what}: {sentence[:30]}", f"{what}: {sentence}")
            path.write_bytes(content)
            wrong += counts["failed"] + (0 if kind in UNCHECKED else counts["changed"])
            print(f"{kind:18} {options.count:,}:", *(f"{n:,} {what}" for what, n in sorted(counts.items())))
            shown = (
                [each for what, each in said.items() if what.startswith("failed")]
                if not options.sentences
                else []
            )
            for sentence in shown or list(said.values())[: options.sentences]:
                print("   ", sentence[:200], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{peak:.2f} GB at most, {wrong} wrong", flush=True)
    raise SystemExit(wrong > 0 or peak > GIGABYTES)


if __name__ == "__main__":
    main()
