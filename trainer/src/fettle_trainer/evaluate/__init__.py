"""What a model can do, measured: its loss on held-out rows, and the answers that it really gives."""
