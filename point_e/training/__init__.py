"""Training Point-E's stages (base, upsampler, surface model, classifier), and shards made of meshes."""
