"""The fine-tuning engine: from a dataset to a verified adapter, in a pod or on a laptop."""
