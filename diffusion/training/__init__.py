"""Training of GLIDE: base, upsampler and noise-aware CLIP, what they start from, and what is done to pictures."""
