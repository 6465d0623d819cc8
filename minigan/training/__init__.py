"""Training a member of `gans`: the run folder, checkpoints, pictures, and the loop that joins them."""
