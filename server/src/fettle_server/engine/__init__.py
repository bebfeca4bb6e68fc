"""The engine: one base model and many adapters, whose rows are generated in one batch."""
