"""A small random CLIP as OpenAI published theirs: a TorchScript archive with their names, code and attributes."""

import warnings
from collections import OrderedDict

import torch
from torch import nn

SIDE, PATCH, WIDTH, EMBED_DIM, CONTEXT, VOCABULARY = 32, 8, 128, 48, 77, 49408


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, WIDTH // 64, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        layers = [("c_fc", nn.Linear(WIDTH, 4 * WIDTH)), ("gelu", QuickGelu())]
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * WIDTH, WIDTH))]))

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.resblocks = nn.ModuleList(Block() for _ in range(layers))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Tower(3)
        self.proj = nn.Parameter(torch.randn(WIDTH, EMBED_DIM) / WIDTH**0.5)

    def forward(self, image):
        patches = self.conv1(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(patches.shape[0], 1, WIDTH), patches], dim=1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj


class SmallClip(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = Visual()
        self.transformer = Tower(2)
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, EMBED_DIM) / WIDTH**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        numbers = {"input_resolution": SIDE, "context_length": CONTEXT, "vocab_size": VOCABULARY}
        for name, number in numbers.items():
            self.register_buffer(name, torch.tensor(number))

    def encode_image(self, image):
        return self.visual(image)

    def encode_text(self, text):
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(text) + self.positional_embedding, mask)
        return self.ln_final(x)[torch.arange(x.shape[0]), text.argmax(-1)] @ self.text_projection

    def forward(self, image, text):
        images, texts = (
            x / x.norm(dim=1, keepdim=True) for x in (self.visual(image), self.encode_text(text))
        )
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def write_archive(path, seed=0):
    """Write it to `path` and return it as TorchScript reads it back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmallClip().eval()
        image, text = torch.randn(2, 3, SIDE, SIDE), torch.randint(1, VOCABULARY, (2, CONTEXT))
    examples = {"forward": (image, text), "encode_image": image, "encode_text": text}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that tracing is old, and which of torch's own checks it cannot follow
        torch.jit.trace_module(model, examples, check_trace=False).save(str(path))
    return torch.jit.load(str(path))
