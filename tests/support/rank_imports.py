"""Imports for the fork server: what every rank needs, loaded once."""

from __future__ import annotations

import transformers.trainer

from fettle_trainer.durable.ranks import hidden

with hidden("mlflow"):
    import deepspeed  # noqa: F401
    import transformers.integrations.deepspeed  # noqa: F401
