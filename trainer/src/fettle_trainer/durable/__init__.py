"""Never lose a run: checkpoints that are whole, stops that all ranks agree on, ranks that end with one verdict."""
