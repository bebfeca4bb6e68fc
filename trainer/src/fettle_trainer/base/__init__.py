"""A tiny chat model, made here in minutes, so that demos and tests need no hub."""
