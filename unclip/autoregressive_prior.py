"""unCLIP's other prior: the image embedding's principal components, as tokens, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange
from torch import Tensor, nn

from ..layers import Transformer, attend
from .check_shapes import check_shapes

BEFORE = 2  # tokens between the text's and the components: the text's vector, and how like the picture is
Cache = list[tuple[Tensor, Tensor]]  # of each block, keys and values [N, heads, length, channels]


class AutoregressivePrior(ModelMixin, ConfigMixin):
    """Predicts a CLIP image embedding from a text, component by component. Source: unCLIP (Ramesh et al. 2022), 2.2.

    An embedding is reduced to `dimensions` principal components, largest first, and each quantised into one of
    `buckets`, evenly between the lowest and the highest of the training data. text_ctx: tokens of a text; xf_width,
    xf_layers, xf_heads: of the transformer; clip_dim: channels of CLIP's vectors, text_width: of its text states, None:
    as many. Before the components stands one of `similarities` tokens, equally frequent in the data, that says how like
    each other text and picture are: to sample, one of the upper half is drawn.
    """

    config: Any  # diffusers' frozen dict of the arguments, which can also be read as attributes
    mean: Tensor
    axes: Tensor
    lowest: Tensor
    highest: Tensor
    edges: Tensor

    @register_to_config
    def __init__(
        self,
        text_ctx: int = 77,
        xf_width: int = 2048,
        xf_layers: int = 24,
        xf_heads: int = 32,
        clip_dim: int = 768,
        text_width: int | None = None,
        dimensions: int = 319,
        buckets: int = 1024,
        similarities: int = 16,
    ):
        super().__init__()
        if not 0 < dimensions <= clip_dim or buckets < 2 or similarities < 2:
            raise ValueError(
                f"dimensions {dimensions}, buckets {buckets} and similarities {similarities} make no prior: expected "
                f"1 to {clip_dim} dimensions, and at least 2 of the others"
            )
        self.text_enc_proj = nn.Linear(text_width or clip_dim, xf_width)
        self.text_emb_proj = nn.Linear(clip_dim, xf_width)
        self.similarity_embedding = nn.Embedding(similarities + 1, xf_width)  # the last: there is no text
        self.bucket_embedding = nn.Embedding(buckets, xf_width)
        length = text_ctx + BEFORE + dimensions - 1
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(1, length, xf_width))
        self.transformer = Transformer(xf_width, xf_layers, xf_heads)
        self.final_ln = nn.LayerNorm(xf_width)
        self.out_proj = nn.Linear(xf_width, buckets)
        for table in (self.similarity_embedding, self.bucket_embedding):
            nn.init.normal_(table.weight, std=0.02)
        self.register_buffer("mean", torch.zeros(clip_dim))
        self.register_buffer("axes", torch.eye(clip_dim)[:dimensions].clone())
        self.register_buffer("lowest", -torch.ones(dimensions))
        self.register_buffer("highest", torch.ones(dimensions))
        self.register_buffer("edges", torch.linspace(-1, 1, similarities + 1)[1:-1].clone())

    @torch.no_grad()
    def fit(self, embeddings: Tensor, text_embeddings: Tensor) -> None:
        """Take components, their ranges and the shares of similarity from data: both [N, clip_dim], N > dimensions."""
        count, dimensions = len(embeddings), self.config.dimensions
        if count <= dimensions:
            raise ValueError(
                f"{dimensions} components cannot be told from {count} embeddings; give more data"
            )
        mean = embeddings.mean(0)
        _, vectors = torch.linalg.eigh(torch.cov(embeddings.double().T))  # smallest first
        self.mean.copy_(mean)
        self.axes.copy_(vectors.T.flip(0)[:dimensions])
        components = (embeddings - self.mean) @ self.axes.T
        self.lowest.copy_(components.amin(0))
        self.highest.copy_(components.amax(0))
        shares = torch.linspace(0, 1, self.config.similarities + 1, device=embeddings.device)[1:-1]
        self.edges.copy_(F.cosine_similarity(embeddings, text_embeddings).quantile(shares))

    def quantise(self, embedding: Tensor) -> Tensor:
        """CLIP's image embeddings [N, clip_dim] as buckets, int64 [N, dimensions]."""
        components = (embedding.float() - self.mean.float()) @ self.axes.T.float()
        share = (components - self.lowest.float()) / self._range()
        return (share * self.config.buckets).floor().long().clamp(0, self.config.buckets - 1)

    def dequantise(self, buckets: Tensor) -> Tensor:
        """The image embeddings [N, clip_dim] in the middle of buckets [N, dimensions]."""
        components = self.lowest.float() + (buckets + 0.5) / self.config.buckets * self._range()
        return self.mean.float() + components @ self.axes.float()

    def similarity(self, embedding: Tensor, text_embedding: Tensor, has_text: Tensor | None = None) -> Tensor:
        """The similarity tokens int64 [N] of image and text embeddings [N, clip_dim]; has_text: bool [N]."""
        tokens = torch.bucketize(F.cosine_similarity(embedding, text_embedding), self.edges)
        return tokens if has_text is None else torch.where(has_text, tokens, self.config.similarities)

    def forward(
        self,
        buckets: Tensor,
        similarity: Tensor,
        text_embedding: Tensor,
        text_states: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of every component, given the ones before it.

        buckets: int64 [N, dimensions], of which the last is not looked at; similarity: int64 [N]. text_embedding
        [N, clip_dim] and text_states [N, text_ctx, text_width]: CLIP's; mask: bool [N, text_ctx], True: a token; None:
        all. Returns [N, dimensions, buckets]. Raises ValueError on other shapes.
        """
        check_shapes(buckets=(buckets, (len(similarity), self.config.dimensions)))
        prefix, seen = self._prefix(similarity, text_embedding, text_states, mask)
        x = torch.cat([prefix, self.bucket_embedding(buckets[:, :-1])], dim=1) + self.positional_embedding
        length = x.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        seen = F.pad(seen, (0, length - seen.shape[1]), value=True)
        x = self.transformer(x, causal & seen[:, None, None])
        return self.out_proj(self.final_ln(x[:, prefix.shape[1] - 1 :]))

    @torch.no_grad()
    def sample(
        self,
        text_embedding: Tensor,
        text_states: Tensor,
        mask: Tensor,
        generators: Sequence[torch.Generator],
        guidance_scale: float = 1.0,
        wordless: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Image embeddings [N, clip_dim] of texts, each drawn from its own generator.

        text_embedding, text_states, mask: as for `forward`. guidance_scale: how far logits lean away from those of
        `wordless`, the same arguments of as many empty texts, which only a scale other than 1 needs.
        """
        n, half, device = len(generators), self.config.similarities // 2, text_embedding.device
        most = self.config.similarities
        drawn = [int(torch.randint(half, most, (), generator=g, device=g.device)) for g in generators]
        similarity = torch.tensor(drawn, device=device)
        given, guides = {"text_embedding": text_embedding, "text_states": text_states, "mask": mask}, False
        if guidance_scale != 1:
            if wordless is None:
                raise ValueError("guidance leans away from empty texts; pass wordless=, or guidance_scale=1")
            given, guides = {name: torch.cat([part, wordless[name]]) for name, part in given.items()}, True
            similarity = torch.cat([similarity, torch.full_like(similarity, self.config.similarities)])
        x, seen = self._prefix(similarity, **given)
        start, found = x.shape[1], []
        x = x + self.positional_embedding[:, :start]
        causal = torch.ones(start, start, dtype=torch.bool, device=device).tril() & seen[:, None, None]
        cache: Cache = []
        for place in range(self.config.dimensions):
            x, cache = self._cached(
                x, cache, causal if place == 0 else F.pad(seen, (0, place), value=True)[:, None, None]
            )
            logits = self.out_proj(self.final_ln(x[:, -1])).float()
            if guides:
                logits = torch.lerp(logits[n:], logits[:n], guidance_scale)
            found.append(_drawn(logits, generators))
            again = torch.cat([found[-1]] * (2 if guides else 1))
            at = start + place
            x = self.bucket_embedding(again)[:, None] + self.positional_embedding[:, at : at + 1]
        return self.dequantise(torch.stack(found, dim=1))

    def _prefix(self, similarity, text_embedding, text_states, mask=None) -> tuple[Tensor, Tensor]:
        """What stands before the components, [N, text_ctx + 2, xf_width], and where it may be seen, bool [N, …]."""
        n, length, width = len(similarity), self.config.text_ctx, self.config.clip_dim
        check_shapes(
            text_embedding=(text_embedding, (n, width)),
            text_states=(text_states, (n, length, self.config.text_width or width)),
            mask=(mask, (n, length)),
        )
        dtype = self.out_proj.weight.dtype
        vectors = [self.text_emb_proj(text_embedding.to(dtype)), self.similarity_embedding(similarity)]
        states = self.text_enc_proj(text_states.to(dtype))
        if mask is None:
            mask = torch.ones(n, length, dtype=torch.bool, device=states.device)
        return torch.cat([states, torch.stack(vectors, dim=1)], dim=1), F.pad(mask, (0, BEFORE), value=True)

    def _cached(self, x: Tensor, cache: Cache, mask: Tensor) -> tuple[Tensor, Cache]:
        """What the transformer makes of new positions x [N, new, xf_width] after those in the cache, and the new cache.

        mask: bool, True where a new position (row) sees one of all so far (column).
        """
        kept: Cache = []
        blocks: list[Any] = list(self.transformer.resblocks)
        for number, block in enumerate(blocks):
            attention = block.attn
            q, k, v = rearrange(
                attention.c_qkv(block.ln_1(x)), attention.order, three=3, heads=attention.heads
            )
            if cache:
                k, v = (torch.cat(pair, dim=2) for pair in zip(cache[number], (k, v), strict=True))
            kept.append((k, v))
            h = rearrange(attend(q, k, v, mask=mask), "n heads length c -> n length (heads c)")
            x = x + attention.c_proj(h)
            x = x + block.mlp(block.ln_2(x))
        return x, kept

    def _range(self) -> Tensor:
        return (self.highest.float() - self.lowest.float()).clamp_min(1e-6)


def _drawn(logits: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One of each row of logits [N, buckets] by its own generator, int64 [N]."""
    # On the CPU: Apple's GPUs have no float64.
    drawn = [torch.rand((), generator=g, device=g.device, dtype=torch.float64).cpu() for g in generators]
    below = torch.softmax(logits.cpu().double(), dim=-1).cumsum(-1) <= torch.stack(drawn)[:, None]
    return below.sum(-1).clamp_max(logits.shape[-1] - 1).to(logits.device)
