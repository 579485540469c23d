"""Seconds per step of the published unCLIP and Point-E networks, float32 and bfloat16, beside the original code.

    python benchmarks/steps.py [--repeats 3] [--only decoder]

Batch 2 is both halves of one guided sample. Weights are random, nothing is downloaded; ours are prepared, as
`layers.prepare` says. The originals run beside ours, in float32, where `karlo` and `point_e` can be imported (clones of
kakaobrain/karlo and openai/point-e on PYTHONPATH). What their code, or diffusers' for Karlo's decoder, took once on two
cores of a Xeon with AMX is in the column "recorded".
"""

import argparse

import torch
from glide_step import seconds
from maquette.layers import prepare
from maquette.point_e import PointDiffusionTransformer, PointUpsampler
from maquette.unclip import DiffusionPrior, UnCLIPDecoder, UnCLIPUpsampler
from rich.console import Console
from rich.table import Table

TEXT = {"text_embedding": (2, 768), "text_states": (2, 77, 768)}


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def timesteps(n):
    return torch.full((n,), 500)


def ready(network, dtype):
    return prepare(network.eval().to(dtype))


class Prior:
    """One guided step of Karlo's prior."""

    label, recorded = "Karlo prior, batch 2", None

    def __init__(self):
        self.x, self.mask = normal(2, 768), torch.ones(2, 77, dtype=torch.bool)
        self.text = {name: normal(*shape) for name, shape in TEXT.items()}

    def ours(self, dtype):
        net = ready(DiffusionPrior(), dtype)
        return lambda: net(self.x, timesteps(2), **self.text, mask=self.mask)

    def original(self):
        from karlo.modules.xf import PriorTransformer

        net = PriorTransformer(77, 2048, 20, 32, True, 768).eval()
        causal = torch.full((1, 81, 81), float("-inf")).triu(1)
        text = dict(zip(("text_emb", "text_enc"), self.text.values(), strict=True))
        return lambda: net(self.x, timesteps(2), **text, mask=self.mask, causal_mask=causal)


class Decoder:
    """One guided step of Karlo's decoder; ours has computed its conditioning before, as in sampling."""

    label, recorded = "Karlo decoder, 64 px, batch 2", 6.2

    def __init__(self):
        self.x, self.image, self.mask = (
            normal(2, 3, 64, 64),
            normal(2, 768),
            torch.ones(2, 77, dtype=torch.bool),
        )
        self.text = {name: normal(*shape) for name, shape in TEXT.items()}

    def ours(self, dtype):
        net = ready(UnCLIPDecoder(), dtype)
        conditioning = net.encode_conditions(self.image, **self.text, mask=self.mask)
        return lambda: net(self.x, timesteps(2), conditioning=conditioning)

    def original(self):
        from karlo.modules.unet import PLMImUNet

        net = PLMImUNet(
            **{"text_ctx": 77, "xf_width": 1536, "clip_emb_mult": 4, "clip_emb_drop": 0.1, "clip_dim": 768},
            **{"in_channels": 3, "model_channels": 320, "out_channels": 6, "num_res_blocks": 3},
            **{"attention_resolutions": (2, 4, 8), "channel_mult": (1, 2, 3, 4), "num_head_channels": 64},
            **{"use_scale_shift_norm": True, "resblock_updown": True},
        ).eval()
        text = dict(zip(("txt_feat", "txt_feat_seq"), self.text.values(), strict=True))
        return lambda: net(self.x, timesteps(2), **text, mask=self.mask, y=self.image)


class Upsampler:
    """One of the first six steps of Karlo's upsampler."""

    label, recorded = "Karlo upsampler, 256 px, batch 1", None

    def __init__(self):
        self.x, self.low_res = normal(1, 3, 256, 256), normal(1, 3, 256, 256)

    def ours(self, dtype):
        net = ready(UnCLIPUpsampler(), dtype)
        return lambda: net(self.x, timesteps(1), self.low_res)

    def original(self):
        from karlo.modules.unet import SuperResUNetModel

        net = SuperResUNetModel(
            **{"in_channels": 3, "model_channels": 320, "out_channels": 3, "num_res_blocks": 3},
            **{"attention_resolutions": (), "channel_mult": (1, 2, 3, 4), "resblock_updown": True},
            use_middle_attention=False,
        ).eval()
        return lambda: net(self.x, timesteps(1), low_res=self.low_res)


class Points:
    """One guided evaluation of a Point-E network of 40M parameters.

    points: how many it makes noise-free; low_res: of the cloud it adds them to; grid: whether it sees a CLIP grid.
    """

    def __init__(self, label, recorded, points, low_res=0, grid=False):
        self.label, self.recorded, self.x = label, recorded, normal(2, 6, points)
        self.given = {"low_res": normal(2, 6, low_res)} if low_res else {}
        self.given |= {"grid": normal(2, 1024, 256)} if grid else {}
        self.context = low_res + 256 * grid

    def ours(self, dtype):
        cls = PointUpsampler if "low_res" in self.given else PointDiffusionTransformer
        net = ready(cls(conditioning="grid" if "grid" in self.given else "none"), dtype)
        conditions = net.encode_conditions(**self.given)
        return lambda: net(self.x, timesteps(2), conditions=conditions)

    def original(self):
        """With points for the grid's tokens, which cost the same: the original's grid networks download CLIP."""
        from point_e.models import transformer

        options = {"device": torch.device("cpu"), "dtype": torch.float32, "n_ctx": self.x.shape[2]}
        options |= {"input_channels": 6, "output_channels": 12, "time_token_cond": True}
        if not self.context:
            net = transformer.PointDiffusionTransformer(**options).eval()
            return lambda: net(self.x, timesteps(2))
        net = transformer.UpsamplePointDiffusionTransformer(**options, cond_ctx=self.context).eval()
        context = normal(2, 6, self.context)
        return lambda: net(self.x, timesteps(2), low_res=context)


STEPS = {
    "prior": Prior,
    "decoder": Decoder,
    "upsampler": Upsampler,
    "points": lambda: Points("Point-E base40M, 1,024 points, batch 2", 1.49, 1024),
    "points-grid": lambda: Points(
        "Point-E base40M, CLIP grid and 1,024 points, batch 2", None, 1024, grid=True
    ),
    "more-points": lambda: Points("Point-E upsampler, 4,096 points, batch 2", 18.8, 3072, 1024),
    "more-points-grid": lambda: Points(
        "Point-E upsampler, CLIP grid and 4,096 points, batch 2", None, 3072, 1024, grid=True
    ),
}


@torch.inference_mode()
def measured(step, repeats):
    """Seconds of (the original or None, ours in float32, ours in bfloat16)."""
    try:
        original = seconds(step.original(), repeats)
    except ImportError:
        original = None
    return original, *(seconds(step.ours(dtype), repeats) for dtype in (torch.float32, torch.bfloat16))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS))
    options = parser.parse_args()
    table = Table("one step", "recorded", "original float32", "float32", "bfloat16", "original / bfloat16")
    for name in options.only:
        step = STEPS[name]()
        original, single, half = measured(step, options.repeats)
        cells = [
            "-" if value is None else f"{value:.2f} s" for value in (step.recorded, original, single, half)
        ]
        table.add_row(step.label, *cells, "-" if original is None else f"{original / half:.1f}x")
    Console(width=120).print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", table)


if __name__ == "__main__":
    main()
