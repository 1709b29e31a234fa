"""Side-by-side runs against peers: the same task, data and weights, in one run."""
