"""unCLIP: the prior from a caption to an image embedding, the decoder to a picture, and its upsampler."""
