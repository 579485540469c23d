"""What other people's code does to the inside of OpenAI's model, done to theirs and to ours, on random weights."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from maquette import clip
from maquette.clip.openai import model as ours_module
from maquette.clip.openai.simple_tokenizer import SimpleTokenizer
from maquette.layers import prepare
from original_clip import SIDE, SIZES, THEIRS, assert_alike, original, pair, pictures
from torch import nn

TEXTS = ["a photo of a cat", "two dogs!", "Ünïcode &amp; so on"]
KINDS = ["ViT", "ResNet"]


@pytest.fixture(scope="module")
def vit():
    return pair("ViT")


def both(pair_of_models, run):
    ours, theirs = run(pair_of_models[1]), run(pair_of_models[0])
    assert_alike(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_modules_keys_and_formats(kind):
    theirs, ours = pair(kind)
    classes = [
        {name: (type(module).__name__, module.training) for name, module in model.named_modules()}
        for model in (theirs, ours)
    ]
    assert classes[1] == classes[0]
    half = ours_module.build_model(theirs.state_dict())
    ours_module.convert_weights(ours)
    for model in (half, ours):
        THEIRS.convert_weights(theirs)
        expected = {name: (value.shape, value.dtype) for name, value in theirs.state_dict().items()}
        found = {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}
        assert list(found) == list(expected)
        assert found["logit_scale"][1] == found["ln_final.weight"][1] == torch.float32
        assert found == expected or model is half
    assert half.state_dict()["visual.conv1.weight"].dtype == torch.float16
    assert list(dict(half.named_buffers())) == list(dict(theirs.named_buffers()))
    for cls in (
        *("CLIP", "VisionTransformer", "Transformer", "ResidualAttentionBlock", "ModifiedResNet"),
        *("AttentionPool2d", "Bottleneck"),
    ):
        wanted, got = (list(inspect.signature(getattr(m, cls)).parameters) for m in (THEIRS, ours_module))
        assert got == wanted
    fresh, random = ours_module.CLIP(**SIZES[kind]), THEIRS.CLIP(**SIZES[kind])
    fresh.initialize_parameters()
    for name, value in random.state_dict().items():
        if value.dim() > 1:  # the same spread of the random start
            assert fresh.state_dict()[name].std().item() == pytest.approx(
                value.std().item(), rel=0.25, abs=1e-6
            )


@pytest.mark.parametrize("kind", KINDS)
def test_attributes(kind):
    theirs, ours = pair(kind)
    names = ["context_length", "vocab_size", "dtype", "visual.input_resolution", "visual.output_dim"]
    names += ["transformer.width", "transformer.layers", "transformer.resblocks.0.attn.num_heads"]
    names += ["transformer.resblocks.0.attn.embed_dim"]
    if kind == "ResNet":
        names += ["visual.attnpool.num_heads", "visual.layer2.0.stride", "visual.layer2.0.expansion"]

    def read(model, name):
        for part in name.split("."):
            model = model[int(part)] if part.isdigit() else getattr(model, part)
        return model

    assert [read(ours, name) for name in names] == [read(theirs, name) for name in names]
    assert torch.equal(ours.build_attention_mask(), theirs.build_attention_mask())
    assert torch.equal(ours.transformer.resblocks[1].attn_mask, theirs.transformer.resblocks[1].attn_mask)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", [False, True])
@torch.no_grad()
def test_vectors_and_logits(kind, half):
    theirs, ours = pair(kind)
    if half:
        THEIRS.convert_weights(theirs)
        ours_module.convert_weights(ours)
    tokens = clip.tokenize(TEXTS)
    assert_alike(ours.encode_image(pictures()), theirs.encode_image(pictures()))
    assert_alike(ours.encode_text(tokens), theirs.encode_text(tokens))
    assert_alike(ours.visual(pictures().to(ours.dtype)), theirs.visual(pictures().to(ours.dtype)))
    for mine, wanted in zip(ours(pictures(), tokens), theirs(pictures(), tokens), strict=True):
        assert_alike(mine, wanted)
    with torch.autocast("cpu", torch.bfloat16, enabled=not half):
        assert_alike(ours.encode_image(pictures()), theirs.encode_image(pictures()))


class TextEncoder(nn.Module):
    """As in CoOp (Zhou et al. 2021): prompts are given as embeddings, and the body is run by hand."""

    def __init__(self, model):
        super().__init__()
        self.transformer, self.ln_final = model.transformer, model.ln_final
        self.positional_embedding, self.text_projection = model.positional_embedding, model.text_projection
        self.dtype = model.dtype

    def forward(self, prompts, tokens):
        x = prompts + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).type(self.dtype)
        return x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ self.text_projection


class PromptLearner(nn.Module):
    """As in CoOp: four learned vectors stand before each name."""

    def __init__(self, model, names, tokenizer):
        super().__init__()
        self.lengths = [len(tokenizer.encode(name)) for name in names]
        width = model.ln_final.weight.shape[0]
        vectors = torch.empty(4, width, dtype=model.dtype)
        nn.init.normal_(vectors, std=0.02, generator=torch.Generator().manual_seed(0))
        self.ctx = nn.Parameter(vectors)
        self.tokens = torch.cat([clip.tokenize(f"X X X X {name}.") for name in names])
        with torch.no_grad():
            embedding = model.token_embedding(self.tokens).type(model.dtype)
        self.register_buffer("prefix", embedding[:, :1])
        self.register_buffer("suffix", embedding[:, 5:])

    def forward(self):
        return torch.cat([self.prefix, self.ctx.expand(len(self.tokens), -1, -1), self.suffix], dim=1)


def test_coops_prompts_learn_the_same(vit):
    def run(model):
        prompts, encoder = PromptLearner(model, ["cat", "hot dog"], SimpleTokenizer()), TextEncoder(model)
        optimizer = torch.optim.SGD(prompts.parameters(), lr=0.1)
        for _ in range(2):
            texts = F.normalize(encoder(prompts(), prompts.tokens), dim=-1)
            images = F.normalize(model.encode_image(pictures()), dim=-1)
            loss = F.cross_entropy(model.logit_scale.exp() * images @ texts.t(), torch.arange(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.zero_grad()
        return torch.cat([prompts.ctx, encoder(prompts(), prompts.tokens) @ torch.ones(48, 64)])

    both(vit, run)


@torch.no_grad()
def test_a_body_run_by_hand(vit):
    def run(model):
        visual = model.visual
        x = visual.conv1(pictures()).flatten(2).permute(0, 2, 1)
        x = torch.cat([visual.class_embedding + torch.zeros(len(x), 1, x.shape[-1]), x], dim=1)
        x = visual.ln_pre(x + visual.positional_embedding).permute(1, 0, 2)
        for block in visual.transformer.resblocks[:-1]:
            x = x + block.attention(block.ln_1(x))
            x = x + block.mlp(block.ln_2(x))
        x = visual.transformer.resblocks[-1](x).permute(1, 0, 2)  # [N, tokens, width]: dense features
        return visual.ln_post(x) @ visual.proj

    assert run(vit[1]).shape == (2, 17, 48)
    both(vit, run)
    assert_alike(run(vit[1])[:, 0], vit[0].encode_image(pictures()))


HOOKED = {
    "ViT": [
        "transformer",
        "transformer.resblocks.0",
        "transformer.resblocks.1.attn",
        "transformer.resblocks.1.mlp.c_fc",
        "ln_final",
        "visual.conv1",
        "visual.ln_pre",
        "visual.transformer.resblocks.2.mlp.gelu",
        "visual.transformer",
        "visual.ln_post",
        "visual",
    ],
    "ResNet": [
        "visual.relu1",
        "visual.avgpool",
        "visual.layer2.0.downsample",
        "visual.layer4.0.relu3",
        "visual.layer4",
        "visual.attnpool",
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_hooks_fire_with_the_whole_length(kind):
    seen = []
    for model in pair(kind):
        found = {}
        for name in HOOKED[kind]:

            def keep(module, inputs, output, name=name, found=found):
                found[name] = (output[0] if isinstance(output, tuple) else output).clone()

            model.get_submodule(name).register_forward_hook(keep)
        model(pictures(), clip.tokenize(TEXTS))
        seen.append(found)
    assert set(seen[1]) == set(HOOKED[kind])
    for name, theirs in seen[0].items():
        assert_alike(seen[1][name], theirs)


def test_dalle2s_adapter(vit):
    """It takes the states after `ln_final` by a hook, and the preprocessing's last step for pictures in [0, 1]."""

    def run(model):
        states = []
        layer = dict(model.named_modules())["ln_final"]
        hook = layer.register_forward_hook(lambda module, inputs, output: states.append(output))
        tokens = clip.tokenize(TEXTS)[..., : model.context_length]
        with torch.no_grad():
            vectors = F.normalize(model.encode_text(tokens).float(), dim=-1)
        hook.remove()
        return states[0].masked_fill((tokens == 0)[..., None], 0) @ torch.ones(64, 48) + vectors[:, None]

    assert vit[1].visual.input_resolution == SIDE
    both(vit, run)


@torch.no_grad()
def test_weights_averaged_as_in_wise_ft():
    def run(models):
        zero_shot, tuned = models
        averaged = copy.deepcopy(zero_shot)
        states = zero_shot.state_dict(), tuned.state_dict()
        averaged.load_state_dict({key: 0.3 * states[0][key] + 0.7 * states[1][key] for key in states[0]})
        ema = torch.optim.swa_utils.AveragedModel(
            averaged, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
        )
        ema.update_parameters(zero_shot)
        ema.update_parameters(zero_shot)
        return torch.cat([ema.module.encode_image(pictures()), ema.module.encode_text(clip.tokenize(TEXTS))])

    theirs, ours = pair("ViT")
    tuned = copy.deepcopy(theirs), copy.deepcopy(ours)
    for model in tuned:
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape))
    assert_alike(run((ours, tuned[1])), run((theirs, tuned[0])))


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_by_gradients_of_a_picture(kind):
    def run(model):
        x = pictures().requires_grad_()
        distance = 1 - torch.cosine_similarity(
            model.encode_image(x), model.encode_text(clip.tokenize(TEXTS[:2]))
        )
        return torch.autograd.grad(distance.sum(), x)[0].flatten(1)

    both(pair(kind), run)


def small_pair_of_inputs(number):
    return pictures(number, seed=number), clip.tokenize(TEXTS[:1] * number)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_traced_with_one_batch_size_it_runs_with_another(kind):
    theirs, ours = pair(kind)
    traced = torch.jit.trace(ours, small_pair_of_inputs(1))
    for number in (1, 3):
        for mine, wanted in zip(
            traced(*small_pair_of_inputs(number)), theirs(*small_pair_of_inputs(number)), strict=True
        ):
            assert_alike(mine, wanted)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_exported_with_a_free_batch_size(kind):
    theirs, ours = pair(kind)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(ours, small_pair_of_inputs(2), dynamic_shapes=(batch, batch))
    for number in (1, 5):
        for mine, wanted in zip(
            exported.module()(*small_pair_of_inputs(number)),
            theirs(*small_pair_of_inputs(number)),
            strict=True,
        ):
            assert_alike(mine, wanted)


@torch.no_grad()
def test_it_compiles_into_one_graph(vit):
    whole = torch.compile(vit[1], backend="eager", fullgraph=True, dynamic=True)
    both((vit[0], whole), lambda model: model(*small_pair_of_inputs(3))[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@torch.no_grad()
def test_onnx_through_export(vit, tmp_path):
    reference = pytest.importorskip("onnx.reference")
    visual = vit[1].visual
    program = torch.onnx.export(
        visual, (pictures(2),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
    )
    program.save(tmp_path / "visual.onnx")
    session = reference.ReferenceEvaluator(str(tmp_path / "visual.onnx"))
    (vectors,) = session.run(None, {session.input_names[0]: pictures(3).numpy()})
    assert_alike(torch.from_numpy(vectors), vit[0].visual(pictures(3)))


def test_fine_tuned_with_convert_weights(vit):
    """As people do: float32 for a step, then half again."""

    def run(model, module):
        model = copy.deepcopy(model)
        module.convert_weights(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1e-3)
        for _ in range(2):
            for parameter in model.parameters():
                parameter.data = parameter.data.float()
            logits = model(pictures(), clip.tokenize(TEXTS[:2]))
            loss = sum(F.cross_entropy(some, torch.arange(2)) for some in logits)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            module.convert_weights(model)
        with torch.no_grad():
            assert model.encode_image(pictures()).dtype == torch.float16
        return torch.cat([value.flatten().float() for value in model.state_dict().values()])

    theirs, ours = run(vit[0], THEIRS), run(vit[1], ours_module)
    assert_alike(ours, theirs)
    start = torch.cat([value.flatten() for value in vit[1].state_dict().values()])
    moved = ours - start
    assert_alike(moved, theirs - start)
    assert moved.abs().max() > 1e-5


@torch.no_grad()
def test_copied_and_wrapped(vit):
    both(vit, lambda model: nn.DataParallel(copy.deepcopy(model))(*small_pair_of_inputs(3))[0])
    both(vit, lambda model: nn.DataParallel(model).module.encode_image(pictures(3)))


@torch.no_grad()
def test_prepared_it_gives_the_same(vit):
    fast = prepare(copy.deepcopy(vit[1]).bfloat16())
    wanted = vit[0].encode_image(pictures())
    assert torch.cosine_similarity(fast.encode_image(pictures()).float(), wanted).min() > 0.999


def test_the_tokenizer_is_theirs():
    theirs, ours = original("simple_tokenizer").SimpleTokenizer(), SimpleTokenizer()
    assert ours.encoder == theirs.encoder
    assert ours.decoder == theirs.decoder
    for text in [*TEXTS, "naïve café 東京 🎉", "it's <|endoftext|> a test", "&lt;b&gt;"]:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.decode([49406, 320, 49407, 0]) == theirs.decode([49406, 320, 49407, 0])
