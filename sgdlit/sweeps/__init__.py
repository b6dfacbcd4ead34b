"""Which runs, and what came out? Grids of configs, workers that run them, the store, statistics."""
