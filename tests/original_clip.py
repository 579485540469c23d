"""The original's own code, from the package openai-clip, and pairs of its models and ours with the same weights."""

from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location

import torch
from maquette.clip.openai.model import build_model as our_build_model

SIDE = 64
TEXT = {"context_length": 77, "vocab_size": 49408, "transformer_width": 64, "transformer_heads": 1}
VIT = {"vision_layers": 3, "vision_width": 128, "vision_patch_size": 16, "transformer_layers": 2}
RESNET = {
    "vision_layers": (1, 2, 1, 1),
    "vision_width": 16,
    "vision_patch_size": None,
    "transformer_layers": 2,
}
SIZES = {
    kind: {"embed_dim": 48, "image_resolution": SIDE, **TEXT, **vision}
    for kind, vision in {"ViT": VIT, "ResNet": RESNET}.items()
}


def original(name):
    """One file of openai-clip: "model" or "simple_tokenizer". The package as a whole needs setuptools before 82."""
    spec = spec_from_file_location(
        f"original_{name}", distribution("openai-clip").locate_file(f"clip/{name}.py")
    )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THEIRS = original("model")


def pair(kind):
    """(the original, ours), of the same weights in float32 and eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = THEIRS.CLIP(**SIZES[kind])
        for name, value in theirs.state_dict().items():  # most of a fresh ResNet's branches are nought
            if "visual." in name and value.dim() < 2 and value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)
    THEIRS.convert_weights(theirs)
    return theirs.eval().float(), our_build_model(theirs.state_dict()).float()


def pictures(number=2, seed=0):
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def assert_alike(ours, theirs):
    """The same shape and format, and the same direction in every vector, or every map [C, H, W]."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if ours.dim() == 4:
        ours, theirs = ours.flatten(1), theirs.flatten(1)
    assert torch.cosine_similarity(ours.float(), theirs.float(), dim=-1).min() >= 0.9999
    assert torch.allclose(ours.norm(), theirs.norm(), rtol=1e-3)
