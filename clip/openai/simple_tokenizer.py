"""The original's module `clip.simple_tokenizer`; its class is in `vocabulary.py`, and comes as in `clip.py`."""

from . import vocabulary

SimpleTokenizer = vocabulary.SimpleTokenizer
