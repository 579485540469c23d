"""Training of unCLIP: both priors, the decoder, the upsampler to 1,024 pixels, and CLIP's vectors kept in shards."""
