"""GLIDE: the conditional U-Net, schedules and samplers, guidance and tokenizers."""
