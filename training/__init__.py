"""One training loop, data shards, EMA, checkpoints and resume; every stage plugs its loss into it."""
