"""Every family of open_clip's table, tiny and random: our vectors are open_clip's."""

import json

import pytest
import timm
import torch
from maquette.clip import ClipEncoder, ClipModel
from maquette.clip.open_clip_encoder import build
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from timm.models import register_model
from tiny_models import shown
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, M2M100Config, PreTrainedTokenizerFast, XLMRobertaConfig

TEXT = {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TOLERANCE = 1e-5  # one kind of GELU in another's place moves a vector by more
TEXTS = ["a red chair", "two blue tables and a lamp", ""]
SIGLIP_TEXT = {
    **TEXT,
    "vocab_size": 40,
    "context_length": 16,
    "hf_tokenizer_name": "words",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}


def tiny(original, name, **smaller):
    """Register timm's `original` with fewer and narrower layers as `name`."""

    def made(pretrained=False, **others):
        return timm.create_model(original, **{**smaller, **others})

    made.__name__ = name
    made.__module__ = __name__
    register_model(made)
    return {"timm_model_name": name, "image_size": 32}


vit = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
siglip = tiny("vit_base_patch16_siglip_224", "vit_tiny_patch16_siglip_32", **vit)
siglip2 = tiny("vit_base_patch32_siglip_256", "vit_tiny_patch32_siglip_64", **vit | {"img_size": 64})
MAP = {"timm_pool": "map", "timm_proj": "none"}
FAMILIES = {
    "ViT": {"vision_cfg": VIT, "text_cfg": TEXT},
    "RN": {
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": TEXT,
        "quick_gelu": True,
    },
    "SigLIP": {
        "vision_cfg": {**siglip, **MAP},
        "text_cfg": SIGLIP_TEXT,
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "SigLIP2": {
        "vision_cfg": {**siglip2, **MAP, "image_size": 64},
        "text_cfg": {**SIGLIP_TEXT, "act_kwargs": {"approximate": "tanh"}},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "EVA02": {
        "vision_cfg": {
            **tiny("eva02_base_patch16_clip_224", "tiny_eva02", **vit),
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "ConvNeXt": {
        "vision_cfg": {
            **tiny("convnext_base", "tiny_convnext", depths=(1, 1, 1, 1), dims=(8, 16, 16, 32)),
            "timm_pool": "",
            "timm_proj": "linear",
            "timm_drop_path": 0.1,
        },
        "text_cfg": TEXT,
    },
    "CoCa": {
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 20, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 20, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "MobileCLIP": {
        "vision_cfg": {
            **tiny("fastvit_mci0", "tiny_fastvit", layers=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32)),
            "image_size": 64,
            "timm_pool": "avg",
            "timm_proj": None,
        },
        "text_cfg": {**TEXT, "no_causal_mask": True},
        "custom_text": True,
    },
    "MobileCLIP-B": {
        "vision_cfg": {
            **tiny("vit_base_mci_224", "tiny_mci", img_size=32, depth=1),
            "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "PE": {
        "vision_cfg": {
            **tiny("vit_pe_core_base_patch16_224", "tiny_pe", **vit),
            "timm_pool": "map",
            "timm_proj": None,
        },
        "text_cfg": {**TEXT, "context_length": 32},
        "custom_text": True,
    },
    "ViTamin": {
        "vision_cfg": {
            **tiny("vitamin_small_224", "tiny_vitamin", img_size=32, depth=2),
            "timm_pool": "",
            "timm_proj": "linear",
        },
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "CLIPA": {
        "vision_cfg": {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            **TEXT,
            "context_length": 8,
            "hf_tokenizer_name": "words",
            "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last",
            "no_causal_mask": True,
        },
    },
    "XLM-R": {"vision_cfg": VIT, "text_cfg": {"hf_model_name": "xlmr", "hf_pooler_type": "mean_pooler"}},
    "NLLB": {
        "vision_cfg": VIT,
        "text_cfg": {"hf_model_name": "nllb", "hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"},
        "custom_text": True,
    },
}
OURS = {"ViT", "RN", "SigLIP", "SigLIP2"}
GRIDLESS = {"RN", "ConvNeXt", "MobileCLIP"}


def made_folder(family, folder):
    """A random checkpoint of the family as a folder in open_clip's layout; its own open_clip module and config."""
    config = {"embed_dim": 32, **json.loads(json.dumps(FAMILIES[family]))}
    text = config["text_cfg"]
    if name := text.get("hf_model_name"):
        sizes = {"vocab_size": 60, "pad_token_id": 1}
        layers = {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        both = {
            f"{side}_{key}": 2 for side in ("encoder", "decoder") for key in ("layers", "attention_heads")
        }
        tower = (
            XLMRobertaConfig(**sizes, **layers)
            if name == "xlmr"
            else M2M100Config(**sizes, **both, d_model=32)
        )
        tower.save_pretrained(folder / "tower")
        assert AutoConfig.from_pretrained(folder / "tower").model_type == tower.model_type
        text |= {"hf_model_name": str(folder / "tower"), "hf_tokenizer_name": "words"}
    if text.get("hf_tokenizer_name"):
        made_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = shown(build(config).eval())
    prepared = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    content = {"model_cfg": config, "preprocess_cfg": prepared}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    weights = {key: value.clone() for key, value in theirs.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return theirs, config, prepared


def made_tokenizer(folder):
    words = ["<s>", "<pad>", "</s>", "<unk>", *["a", "red", "chair", "two", "blue", "tables", "and", "lamp"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_our_vectors_are_open_clips(family, tmp_path):
    theirs, config, prepared = made_folder(family, tmp_path)
    ours = ClipModel.from_pretrained(tmp_path, dtype=torch.float32)
    assert isinstance(ours.encoder, ClipEncoder) == (family in OURS)
    size = config["vision_cfg"]["image_size"]
    transform = image_transform_v2(PreprocessCfg(size=size, **prepared), is_train=False)
    pictures = [Image.effect_noise((40 + 30 * i, 50), 90).convert("RGB") for i in range(3)]
    pixels = torch.stack([transform(picture) for picture in pictures])
    expected = theirs.encode_image(pixels, normalize=True)
    found = ours.embed_images(pictures)
    assert (found * expected).sum(-1).min() > 0.9999
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)

    text = config["text_cfg"]
    length = text.get("context_length", 77)
    if text.get("hf_tokenizer_name"):
        tokens = HFTokenizer(str(tmp_path), context_length=length, **text.get("tokenizer_kwargs", {}))(TEXTS)
    else:
        tokens = ours.tokenizer(TEXTS, length)
    found, expected = ours.embed_texts(TEXTS), theirs.encode_text(tokens, normalize=True)
    assert (found * expected).sum(-1).min() > 0.9999
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    assert ours.logit_bias == (None if theirs.logit_bias is None else theirs.logit_bias.item())

    grid = ours.encoder.encode_image(pixels).grid
    if family in GRIDLESS:
        assert grid is None
    else:
        tower = theirs.visual.forward_intermediates(pixels, indices=1, output_fmt="NLC")
        torch.testing.assert_close(grid, tower["image_intermediates"][0], rtol=1e-3, atol=1e-3)

    ours.save_pretrained(tmp_path / "saved")
    again = ClipModel.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    torch.testing.assert_close(again.embed_texts(TEXTS), found)
    changed = next((tmp_path / "saved").rglob("*.safetensors"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="is not what was saved"):
        ClipModel.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"the text 'a a a .* (fit|fits?) "):
        ours.embed_texts(["a " * 100])
