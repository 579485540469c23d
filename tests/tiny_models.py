"""Models that know nothing and are made in a moment: for tests of everything around a network."""

from collections.abc import Sequence
from pathlib import Path

import maquette.toybox
import pytest
import torch
from maquette.clip import ClipEncoder, ClipModel, ClipTokenizer
from maquette.diffusion import GlideTokenizer, GlideUNet, NoisedClip
from maquette.pipelines import GlidePipeline, PointEPipeline, UnCLIPPipeline, UnCLIPVariationPipeline
from maquette.point_e import PointDiffusionTransformer, PointUpsampler, SurfaceModel
from maquette.training import fit
from maquette.unclip import DiffusionPrior, UnCLIPDecoder, UnCLIPUpsampler
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

TINY_CLIP: dict = {
    "embed_dim": 16,
    "image_resolution": 32,
    "vision_layers": 2,
    "vision_width": 32,
    "vision_patch_size": 8,
    "vision_head_width": 16,
    "context_length": 24,
    "transformer_width": 32,
    "transformer_heads": 2,
    "transformer_layers": 2,
}


def tiny_glide(**parts) -> GlidePipeline:
    """A pipeline around a random inpainting GlideUNet of 16 px that reads 8 tokens. parts: others of it."""
    unet = tiny_unet(image_size=16, inpaint=True)
    return GlidePipeline(unet, tiny_tokenizer(), **parts, num_inference_steps=3, guidance_scale=2.5)


def tiny_two_stages() -> GlidePipeline:
    """The same with an upsampler to 64 px of two steps."""
    upsampler = tiny_unet(image_size=64, super_res=True, inpaint=True)
    pipe = tiny_glide(upsampler=upsampler, upsampler_steps=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_unet(text_ctx: int = 8, **arguments) -> GlideUNet:
    """A random GlideUNet."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = GlideUNet(
            model_channels=32,
            num_res_blocks=1,
            attention_resolutions=(2,),
            channel_mult=(1, 2),
            num_head_channels=32,
            text_ctx=text_ctx,
            xf_width=32,
            xf_layers=1,
            xf_heads=2,
            n_vocab=300,
            **arguments,
        )
        return shown(unet).eval()


def shown(network):
    """The network with weights where those it is made with are zeros, which hide what it is told."""
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


def tiny_tokenizer(captions: Sequence[str] = ("a red chair", "a blue table")) -> GlideTokenizer:
    """300 entries: all bytes, what is frequent in the captions, and the padding."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=299, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return GlideTokenizer(tokenizer)


def tiny_clip() -> ClipModel:
    """A random CLIP of 32 px and 24 tokens, with vectors of 16 and mini's tokenizer."""
    tokenizer = ClipTokenizer.from_file(Path(maquette.toybox.__file__).with_name("tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ClipEncoder(**TINY_CLIP, vocab_size=tokenizer.vocab_size)
    return ClipModel(encoder.requires_grad_(False), tokenizer, name="tiny")


def tiny_noised_clip() -> NoisedClip:
    """A random noise-aware CLIP of 16 px that reads 24 tokens of mini's tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NoisedClip(1024, 24, 16, 2, 1, 16, 16, 4, 2, 1, 16).requires_grad_(False)


def tiny_unclip(**arguments) -> UnCLIPPipeline:
    """A pipeline around random networks: 16 px, then 32 px, of the tiny CLIP's vectors and mini's tokenizer."""
    clip = tiny_clip()
    reads = {"text_ctx": 24, "clip_dim": 16, "text_width": 32}
    unet = {"channels_multiple": (1, 2), "channels": 32, "depth": 1, "size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = DiffusionPrior(xf_width=32, xf_layers=1, xf_heads=2, **reads)
        decoder = UnCLIPDecoder(
            16, 32, 1, (1, 2), attention_resolutions=(8,), num_head_channels=32, xf_width=32, **reads
        )
        upsampler = UnCLIPUpsampler(**unet)
        for network in (decoder, upsampler):
            shown(network)
    parts = {"prior": prior.eval(), "decoder": decoder.eval(), "upsampler": upsampler.eval()}
    parts |= {"clip": clip.encoder, "tokenizer": clip.tokenizer}
    few = {"prior_steps": 2, "num_inference_steps": 3, "guidance_scale": 2.0, "upsampler_steps": 2}
    pipe = UnCLIPPipeline(**{**parts, **few, **arguments})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_variation() -> UnCLIPVariationPipeline:
    """The same without the prior."""
    whole = tiny_unclip()
    few = {"num_inference_steps": 3, "guidance_scale": 2.0, "upsampler_steps": 2}
    pipe = UnCLIPVariationPipeline(whole.decoder, whole.clip, whole.tokenizer, whole.upsampler, **few)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_point_e(conditioning: str = "grid", **arguments) -> PointEPipeline:
    """A pipeline around random networks: 40 points, then 60 more, of the tiny CLIP's grids or vectors; a surface."""
    clip = tiny_clip()
    width = {"none": 32, "vector": 16, "grid": 32}[conditioning]
    small = {"width": 32, "layers": 1, "heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = PointDiffusionTransformer(n_ctx=40, conditioning=conditioning, clip_width=width, **small)
        upsampler = PointUpsampler(n_ctx=60, cond_ctx=40, clip_width=32, **small)
        surface = SurfaceModel(100, 32, 1, 2, 1, 2)
        for network in (base, upsampler, surface):
            shown(network)
    parts = {"base": base.eval(), "upsampler": upsampler.eval(), "surface": surface.eval()}
    parts |= {"clip": clip.encoder, "tokenizer": clip.tokenizer}
    pipe = PointEPipeline(**{**parts, "num_inference_steps": 4, "upsampler_steps": 3, **arguments})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def whole_and_resumed(stage, recipe, shards, folder, calls, saved):
    """The folders of two models: of a run without a checkpoint, and of one that was resumed.

    It had crashed at that call of its loss, when it had saved these steps.
    """

    class Crash(Exception):
        pass

    class Crashing(stage):
        left = calls

        def loss(self, *arguments):
            self.left -= 1
            if not self.left:
                raise Crash
            return super().loss(*arguments)

    rarely = recipe.model_copy(update={"checkpoint_every": 0})
    whole = fit(stage(rarely), rarely, shards, folder / "whole")
    with pytest.raises(Crash):
        fit(Crashing(recipe), recipe, shards, folder / "broken")
    steps = [int(path.name.removeprefix("step-")) for path in (folder / "broken" / "checkpoints").iterdir()]
    assert sorted(steps) == saved, steps
    return whole, fit(stage(recipe), recipe, shards, folder / "broken", resume=True)
