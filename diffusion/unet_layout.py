"""Reads the layout of a GLIDE U-Net off its checkpoint's shapes."""

from torch import Tensor

_SHAPES_TELL = {
    "model_channels", "num_channels", "out_channels", "num_res_blocks", "attention_resolutions", "channel_mult",
    "text_ctx", "xf_width", "xf_layers", "xf_final_ln", "xf_padding", "n_vocab", "super_res", "inpaint",
}  # fmt: skip
_SHAPES_DO_NOT_TELL = {"image_size", "dropout", "num_heads", "num_head_channels", "xf_heads"}
_FIXED = {"use_scale_shift_norm": True, "resblock_updown": True, "num_heads_upsample": -1}
_RUN_TIME = {"diffusion_steps", "noise_schedule", "timestep_respacing", "use_fp16", "cache_text_emb"}


def layout_from_original(state_dict: dict[str, Tensor], config: dict) -> dict:
    """Constructor arguments of GlideUNet for an original state dict.

    config overrides what shapes cannot tell (image_size, dropout, num_heads, num_head_channels, xf_heads); what
    they do tell is taken from them. Raises ValueError on a key it does not know or a layout GLIDE never had.
    """
    unknown = set(config) - _SHAPES_TELL - _SHAPES_DO_NOT_TELL - set(_FIXED) - _RUN_TIME
    if unknown:
        raise ValueError(f"unknown GLIDE config keys: {', '.join(sorted(unknown))}.")
    for key, value in _FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(
                f"GLIDE config {key}={config[key]!r} is not supported; published networks have {value!r}."
            )
    try:
        layout = _read(state_dict)
    except KeyError as missing:
        raise ValueError(f"not a GLIDE checkpoint: key {missing} is missing.") from None
    return layout | {key: config[key] for key in _SHAPES_DO_NOT_TELL if key in config}


def _read(state_dict):
    shape = {key: tuple(value.shape) for key, value in state_dict.items()}
    model_channels = shape["time_embed.0.weight"][1]
    outputs = 1 + max((int(k.split(".")[1]) for k in shape if k.startswith("output_blocks.")), default=-1)
    # The last layer of a level's last output block is a residual block that doubles the size.
    ups = [
        i for i in range(outputs) if any(f"output_blocks.{i}.{j}.in_layers.2.weight" in shape for j in (1, 2))
    ]
    levels = len(ups) + 1
    per_level = outputs // levels
    if outputs % levels or outputs == 0:
        raise ValueError(
            f"not a GLIDE checkpoint: {outputs} output blocks do not divide into {levels} levels."
        )
    first = range(0, outputs, per_level)
    mults = [shape[f"output_blocks.{i}.0.in_layers.2.weight"][0] // model_channels for i in first]
    attended = [f"output_blocks.{i}.1.qkv.weight" in shape for i in first]
    in_channels = shape["input_blocks.0.0.weight"][1]
    if in_channels not in (3, 6, 7, 10):
        raise ValueError(f"not a GLIDE checkpoint: {in_channels} input channels; expected 3, 6, 7 or 10.")
    super_res, inpaint = in_channels in (6, 10), in_channels in (7, 10)
    n_vocab, xf_width = shape["token_embedding.weight"]
    return {
        "image_size": 256 if super_res else 64,
        "model_channels": model_channels,
        "out_channels": shape["out.2.weight"][0],
        "num_res_blocks": per_level - 1,
        "attention_resolutions": tuple(2**i for i, yes in enumerate(reversed(attended)) if yes),
        "channel_mult": tuple(reversed(mults)),
        "text_ctx": shape["positional_embedding"][0],
        "xf_width": xf_width,
        "xf_layers": len({k.split(".")[2] for k in shape if k.startswith("transformer.resblocks.")}),
        "xf_final_ln": "final_ln.weight" in shape,
        "xf_padding": "padding_embedding" in shape,
        "n_vocab": n_vocab,
        "super_res": super_res,
        "inpaint": inpaint,
    }
