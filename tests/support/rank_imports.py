"""Imports for the fork server: what every rank needs, loaded once."""

from __future__ import annotations

import transformers.integrations.deepspeed
import transformers.trainer  # noqa: F401

import fettle_trainer.durable.trainer  # noqa: F401
