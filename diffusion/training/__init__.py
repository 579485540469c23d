"""Training of GLIDE: base and upsampler, with what they start from and what is done to their pictures."""
