"""The tests of the model server run the model stack."""

from __future__ import annotations

from model_stack import tiny

__all__ = ["tiny"]
