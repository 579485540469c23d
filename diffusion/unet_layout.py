"""Reads the layout of an ADM U-Net off its checkpoint's shapes."""

from typing import Any

from ..weights.shapes import Shapes


def read_unet(shape: Shapes) -> dict[str, Any]:
    """Constructor arguments of UNet for an original checkpoint, but for head sizes, norm groups and dropout.

    Raises ValueError that says this is no checkpoint of its kind, naming the first key that it lacks.
    """
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
            f"not a {shape.kind} checkpoint: {outputs} output blocks do not divide into {levels} levels"
        )
    first = range(0, outputs, per_level)
    mults = [shape[f"output_blocks.{i}.0.in_layers.2.weight"][0] // model_channels for i in first]
    attended = [f"output_blocks.{i}.1.qkv.weight" in shape for i in first]
    return {
        "in_channels": shape["input_blocks.0.0.weight"][1],
        "out_channels": shape["out.2.weight"][0],
        "model_channels": model_channels,
        "num_res_blocks": per_level - 1,
        "channel_mult": tuple(reversed(mults)),
        "attention_factors": tuple(2**i for i, yes in enumerate(reversed(attended)) if yes),
    }
