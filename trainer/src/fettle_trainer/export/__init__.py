"""What leaves the trainer: an adapter or a whole model, proven to be the one that was trained."""
