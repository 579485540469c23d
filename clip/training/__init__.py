"""Training of CLIP: the stage, its losses, gradient caching, fine-tuning and weight interpolation."""
