"""Point-E's diffusion transformers: over the points of a cloud, and over those that an upsampler adds.

Submodules keep the original checkpoints' names, so loading one is a shape check. Points have no order and get no
position, so a network takes any number of them, see `token_counts`. What does not change while sampling (the
condition's tokens, the low resolution cloud's) is computed once by `encode_conditions`.
"""

import copy
import math
from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from ..layers import MLP, Transformer, timestep_embedding, with_waves
from ..weights.load_original import load_original
from ..weights.shapes import depth, sizes
from .arguments import arguments

Network = TypeVar("Network", bound="PointDiffusionTransformer")
CONDITIONINGS = ("none", "vector", "grid")
# From a cloud's xyz and its rgb in 0…255 to what the networks see, about -1…1.
CHANNEL_SCALES = (2.0, 2.0, 2.0, 0.007843137255, 0.007843137255, 0.007843137255)
CHANNEL_BIASES = (0.0, 0.0, 0.0, -1.0, -1.0, -1.0)


class PointDiffusionTransformer(ModelMixin, ConfigMixin):
    """Predicts the noise of a cloud. Source: Point-E (Nichol et al. 2022), section 4.3, and openai/point-e.

    n_ctx: points of the clouds it was trained on. conditioning: "none", "vector" (a CLIP vector) or "grid" (an image's
    CLIP patch grid), clip_width channels wide. time_token_cond, token_cond: whether the timestep and the vector are
    tokens of their own, as in all published networks, or added to every point. octaves: of the waves that points come
    with (see `with_waves`), from which small networks learn fine shapes sooner; published ones have none.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes

    @register_to_config
    def __init__(
        self,
        input_channels: int = 6,
        output_channels: int = 12,
        n_ctx: int = 1024,
        width: int = 512,
        layers: int = 12,
        heads: int = 8,
        time_token_cond: bool = True,
        token_cond: bool = True,
        conditioning: str = "grid",
        clip_width: int = 1024,
        octaves: int = 0,
    ):
        super().__init__()
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"conditioning {conditioning!r} is not one of {', '.join(CONDITIONINGS)}")
        self.token_cond = token_cond
        self.time_embed = MLP(width)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.backbone = Transformer(width, layers, heads)
        self.input_proj = nn.Linear(input_channels + 6 * octaves, width)
        self.output_proj = nn.Linear(width, output_channels)
        nn.init.zeros_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)
        if conditioning == "vector":
            self.clip_embed = nn.Linear(clip_width, width)
        elif conditioning == "grid":
            self.clip_embed = nn.Sequential(nn.LayerNorm(clip_width), nn.Linear(clip_width, width))

    @classmethod
    def from_original(
        cls: type[Network], state_dict: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
    ) -> Network:
        """The network of a published checkpoint, float32, in eval mode.

        state_dict: the original's keys. config: what shapes cannot tell (heads, which otherwise have 64 channels each;
        n_ctx; time_token_cond, token_cond), in the original's vocabulary. Raises ValueError naming unknown config keys,
        or up to five missing, extra or misshapen keys.
        """
        told: dict[str, Any] = sizes(
            state_dict,
            {
                "width": ("input_proj.weight", 0),
                "input_channels": ("input_proj.weight", 1),
                "output_channels": ("output_proj.weight", 0),
            },
        )
        told["layers"] = depth(state_dict, "backbone")
        told["conditioning"] = "none"
        for conditioning, key in (("vector", "clip_embed.weight"), ("grid", "clip_embed.1.weight")):
            if key in state_dict:
                told |= {"conditioning": conditioning, "clip_width": state_dict[key].shape[1]}
        heads = max(1, told.get("width", 512) // 64)
        with torch.device("meta"):
            net = cls(**arguments(cls, told, {"heads": heads, **(config or {})}))
        return load_original(net, state_dict)

    def encode_conditions(
        self, embedding: Tensor | None = None, grid: Tensor | None = None, low_res: Tensor | None = None
    ) -> Tensor | None:
        """Tokens [N, tokens, width] of what a whole sampling run is conditioned on; None if that is nothing.

        Arguments as in `forward`. Raises ValueError where they are not those that this network takes.
        """
        if low_res is not None:
            raise ValueError(f"this {type(self).__name__} is no upsampler: leave out low_res")
        kind, width = self.config.conditioning, self.config.clip_width
        inputs = {"vector": ("embedding", embedding, "[N, {}]"), "grid": ("grid", grid, "[N, {}, tokens]")}
        for takes, (name, given, shape) in inputs.items():
            if takes != kind and given is not None:
                raise ValueError(f"this network's conditioning is {kind!r}: leave out {name}")
            if takes == kind and (
                given is None or given.dim() != shape.count(",") + 1 or given.shape[1] != width
            ):
                found = "nothing" if given is None else f"shape {list(given.shape)}"
                raise ValueError(f"{name} is {found}; expected {shape.format(width)}, zeros for no condition")
        dtype = self.ln_pre.weight.dtype
        if embedding is not None:
            # CLIP's vectors have length 1; so their channels' variance is 1.
            return self.clip_embed(math.sqrt(width) * embedding.to(dtype))[:, None]
        if grid is not None:
            return self.clip_embed(rearrange(grid, "n c tokens -> n tokens c").to(dtype))
        return None

    def token_counts(self, points: int, given: Mapping[str, Tensor]) -> Tensor | None:
        """How often each token stands there, as `forward` takes it; None: all of them once.

        points: how many of a cloud are seen; each counts as the n_ctx / points for which it stands, so that any number
        makes a cloud. given: the arguments of `encode_conditions` that are not None; `low_res` counts likewise.
        """
        config = self.config
        tokens = {name: told.shape[2] if told.dim() == 3 else 1 for name, told in given.items()}
        low_res = tokens.pop("low_res", 0)
        # In the order in which `forward` lines them up.
        numbers = [sum(tokens.values()) * self.token_cond, low_res, int(config.time_token_cond), points]
        each = [1.0, config.cond_ctx / low_res if low_res else 1.0, 1.0, config.n_ctx / points]
        return None if set(each) == {1.0} else torch.tensor(each).repeat_interleave(torch.tensor(numbers))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        embedding: Tensor | None = None,
        grid: Tensor | None = None,
        low_res: Tensor | None = None,
        conditions: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Predicts the noise in x and where its variance lies.

        x: [N, 6, points], xyz and rgb scaled to about -1…1, plus noise; timesteps: [N], of the training schedule.
        embedding: CLIP vectors [N, clip_width] of length 1, grid: CLIP patch grids [N, clip_width, tokens], whichever
        the network takes, zeros for no condition; low_res: for `PointUpsampler`. Or `conditions`, what
        `encode_conditions` made of them; counts: float32 [tokens], how often each token stands there, of the
        conditions, the time and the points; where there are fewer counts, the other tokens stand there once.
        Returns [N, 12, points] in x's dtype: epsilon, then the variance interpolation. Raises ValueError on other
        shapes.
        """
        if x.dim() != 3 or x.shape[1] != self.config.input_channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected [N, {self.config.input_channels}, points]"
            )
        if conditions is None:
            conditions = self.encode_conditions(embedding, grid, low_res)
        if len(timesteps) != len(x) or (conditions is not None and len(conditions) != len(x)):
            raise ValueError(f"{len(x)} clouds were given with other numbers of conditions or timesteps")
        dtype = self.ln_pre.weight.dtype
        time = self.time_embed(timestep_embedding(timesteps, self.config.width).to(dtype))[:, None]
        points = with_waves(rearrange(x, "n c points -> n points c"), self.config.octaves)
        h = self.input_proj(points.to(dtype))
        tokens = []
        for token, own in ((conditions, self.token_cond), (time, self.config.time_token_cond)):
            if token is not None and own:
                tokens.append(token)
            elif token is not None:
                h = h + token
        h = self.ln_pre(torch.cat([*tokens, h], dim=1))
        h = self.backbone(h, self._mask(counts, h))[:, -x.shape[2] :]
        return rearrange(self._read_out(h.float()), "n points c -> n c points").to(x.dtype)

    def _mask(self, counts: Tensor | None, h: Tensor) -> Tensor | None:
        """For attention, by which the first tokens of h count as often as `counts` says: e^log(n) = n.

        Tokens have no places, so those that begin alike stay alike, and one of them with the weight of all is the same.
        """
        if counts is None:
            return None
        return F.pad(counts.log(), (0, h.shape[1] - len(counts)))[None, None, None].to(h)

    def _read_out(self, h: Tensor) -> Tensor:
        """The last norm and product, in float32: at high noise an error in epsilon is magnified in x_0."""
        norm, last = self.ln_post, self.output_proj
        h = F.layer_norm(h, norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
        return F.linear(h, last.weight.float(), last.bias.float())


class PointUpsampler(PointDiffusionTransformer):
    """Adds points to a cloud: `low_res` is seen as tokens. Source: Point-E, section 4.4, and openai/point-e.

    n_ctx: points that it adds; cond_ctx: points of `low_res` in training. The others as in `PointDiffusionTransformer`.
    """

    ignore_for_config: ClassVar[list[str]] = ["token_cond"]  # which is not an argument of its own

    @register_to_config
    def __init__(
        self,
        input_channels: int = 6,
        output_channels: int = 12,
        n_ctx: int = 3072,
        cond_ctx: int = 1024,
        width: int = 512,
        layers: int = 12,
        heads: int = 8,
        time_token_cond: bool = True,
        conditioning: str = "grid",
        clip_width: int = 1024,
        octaves: int = 0,
    ):
        super().__init__(
            input_channels=input_channels,
            output_channels=output_channels,
            n_ctx=n_ctx,
            width=width,
            layers=layers,
            heads=heads,
            time_token_cond=time_token_cond,
            conditioning=conditioning,
            clip_width=clip_width,
            octaves=octaves,
        )
        self.cond_point_proj = nn.Linear(input_channels + 6 * octaves, width)
        self.register_buffer("channel_scales", torch.tensor(CHANNEL_SCALES))
        self.register_buffer("channel_biases", torch.tensor(CHANNEL_BIASES))

    @classmethod
    def from_base(cls, base: PointDiffusionTransformer, layers: int | None = None) -> "PointUpsampler":
        """An upsampler to be trained further, with the weights of a base network: it knows the shapes already.

        The points of `low_res` are seen as the base sees those that it makes. layers: how many are kept, the first and
        the last ones; None: all. Raises ValueError for more than the base has, or none.
        """
        had, own = base.config.layers, signature(cls).parameters
        kept = had if layers is None else layers
        if not (isinstance(kept, int) and 1 <= kept <= had):
            raise ValueError(
                f"layers is {kept!r}, but the base network has {had} to go on from; ask for 1 to {had}"
            )
        shared = {name: value for name, value in base.config.items() if name in own and name != "n_ctx"}
        net, shallow = cls(**{**shared, "layers": kept}), copy.deepcopy(base)
        first = (kept + 1) // 2
        del shallow.backbone.resblocks[first : first + had - kept]
        seen = {f"cond_point_proj.{name}": value for name, value in base.input_proj.state_dict().items()}
        net.load_state_dict(net.state_dict() | shallow.state_dict() | seen)
        return net

    def encode_conditions(
        self, embedding: Tensor | None = None, grid: Tensor | None = None, low_res: Tensor | None = None
    ) -> Tensor:
        """Tokens [N, tokens, width]: the CLIP grid's, if there is one, and those of low_res [N, 6, points].

        low_res: xyz in scene units, rgb in 0…255. Raises ValueError where arguments are not those it takes.
        """
        channels = self.config.input_channels
        if low_res is None or low_res.dim() != 3 or low_res.shape[1] != channels:
            found = "nothing" if low_res is None else f"shape {list(low_res.shape)}"
            raise ValueError(f"low_res is {found}; a PointUpsampler takes [N, {channels}, points]")
        tokens = super().encode_conditions(embedding, grid)
        points = rearrange(low_res, "n c points -> n points c") * self.channel_scales + self.channel_biases
        points = with_waves(points, self.config.octaves)
        points = self.cond_point_proj(points.to(self.ln_pre.weight.dtype))
        return points if tokens is None else torch.cat([tokens, points], dim=1)
