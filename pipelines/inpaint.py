"""Inpainting with GLIDE: a hole in a photo, or what lies past its edges, painted anew as a prompt says."""

from __future__ import annotations

from .glide import GlidePipeline


class GlideInpaintPipeline(GlidePipeline):
    """Inpainting with GLIDE networks that take `inpaint_image` and `inpaint_mask`; parts and settings as GlidePipeline's.

    Source: GLIDE (Nichol et al. 2021), section 2.3 and 5, and openai/glide-text2im, notebooks/inpaint.ipynb.
    """

    task = "inpainting"
