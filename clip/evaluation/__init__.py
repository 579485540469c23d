"""Measures of a CLIP: accuracy over labelled pictures, linear probe, retrieval, and a picture of what it confuses."""
