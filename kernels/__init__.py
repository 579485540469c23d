"""Linear layers with packed weights: the same products as torch's, in the way that is fastest on this CPU."""

from .int16_product import Int16Linear, allow_int16
from .onednn_product import OneDNNLinear

__all__ = ["Int16Linear", "OneDNNLinear", "allow_int16"]
