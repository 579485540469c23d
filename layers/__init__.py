"""What all networks are made of: attention, transformer blocks, linear layers, group norm, embeddings."""
