"""Adapter: an imported adapter is verified by a Job and kept as long as somebody uses it."""
