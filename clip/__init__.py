"""CLIP: the shared encoder of texts and images, its tokenizers, zero-shot use and contrastive training."""
