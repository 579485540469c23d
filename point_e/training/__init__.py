"""Training of Point-E: a base network, an upsampler, and what they are told."""
