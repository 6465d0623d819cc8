"""Training: the game, the run folder, checkpoints, pictures and the loop that joins them."""
