"""What was chosen for each setting that was left open, by its path in the API: what a FineTuneJob's status shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic.alias_generators import to_camel

from fettle_trainer.evaluate.metrics import chosen_metrics

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.train.settings import Resolved

_FIELDS: Final = {
    "training.max_steps": "total_steps",
    "training.epochs": "epochs",
    "training.learning_rate": "learning_rate",
    "training.batch_size": "batch_size",
    "training.micro_batch_size": "micro_batch_size",
    "training.schedule": "schedule",
    "training.warmup": "warmup_steps",
    "training.weight_decay": "weight_decay",
    "training.optimizer": "optimizer",
    "training.max_length": "max_length",
    "training.packing": "packing",
    "training.gradient_checkpointing": "gradient_checkpointing",
    "training.precision": "precision",
    "training.eval_every": "eval_every",
    "training.save_every": "save_every",
    "training.log_every": "log_every",
    "distributed.zero.stage": "zero_stage",
}
_OF_ADAPTERS: Final = {
    "lora.rank": "rank",
    "lora.alpha": "alpha",
    "lora.dropout": "dropout",
    "lora.init_weights": "init_weights",
}
_TRAINED: Final = {"chat": "assistant", "sharegpt": "assistant", "text": "all"}
"""What `loss.trainOn` auto means for a format; of the others it is the completion."""


def chosen_settings(config: RunConfig, resolved: Resolved, row_format: RowFormat | None) -> dict[str, str]:
    """Return the values of what the configuration leaves open; the paths are those of a FineTuneJob's spec."""
    fields = _FIELDS if config.method == "full" else _FIELDS | _OF_ADAPTERS
    chosen: dict[str, Any] = {
        path: getattr(resolved, name) for path, name in fields.items() if _is_open(config, path)
    }
    if _is_open(config, "training.overlong"):
        chosen["training.overlong"] = "drop"
    if not config.output.exports:
        chosen["output.exports"] = "merged" if config.method == "full" else "adapter"
    if row_format is not None:
        chosen |= _by_format(config, row_format)
    return {_camel(path): _text(value) for path, value in chosen.items() if value is not None}


def _by_format(config: RunConfig, row_format: RowFormat) -> dict[str, str]:
    chosen: dict[str, str] = {}
    if _is_open(config, "dataset.format"):
        chosen["dataset.format"] = row_format
    if _is_open(config, "training.loss.train_on"):
        chosen["training.loss.train_on"] = _TRAINED.get(row_format, "completion")
    if not config.evaluation.metrics:
        chosen["evaluation.metrics"] = ", ".join(chosen_metrics(config.evaluation, row_format))
    return chosen


def _is_open(config: RunConfig, path: str) -> bool:
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value is None or value == "auto"


def _camel(path: str) -> str:
    return ".".join(to_camel(part) for part in path.split("."))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
