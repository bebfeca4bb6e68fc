"""Losses that a run names: our own few, and those that an installed package offers.

A package offers one as an entry point of the group `fettle_trainer.losses`: a callable that takes the settings (texts
by name) and returns a TokenLoss. Its settings are its own to check; a ValueError becomes the user's sentence.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fettle_trainer.errors import WrongInputError
from fettle_trainer.train.loss import TokenLoss, cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fettle_trainer.config.run import LossConfig

GROUP: Final = "fettle_trainer.losses"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelSmoothing(_Settings):
    """Give every other token a little of the target's share."""

    epsilon: float = Field(default=0.1, gt=0, lt=1)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each token's loss."""
        return torch.nn.functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.epsilon
        )


class Focal(_Settings):
    """Count what the model says well already for less."""

    gamma: float = Field(default=2.0, gt=0, le=10)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each token's loss."""
        plain = cross_entropy(logits, targets)
        return (1 - torch.exp(-plain)) ** self.gamma * plain


_OWN: Final[dict[str, Callable[..., TokenLoss]]] = {"label-smoothing": LabelSmoothing, "focal": Focal}


def chosen_loss(config: LossConfig) -> TokenLoss:
    """Return the loss that the configuration names."""
    if config.plugin is None:
        return cross_entropy
    maker = _maker(config.plugin)
    try:
        return maker(**config.settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise _wrong_settings(config, problems) from error
    except (TypeError, ValueError) as error:
        raise _wrong_settings(config, str(error)) from error


def class_weight_of(labels: tuple[str, ...], weights: Mapping[str, float]) -> dict[str, float]:
    """Return a weight for every label of the data; one that the configuration leaves out counts once."""
    unknown = sorted(set(weights) - set(labels))
    if unknown:
        known = ", ".join(labels[:8]) or "none, as its format is not classification"
        message = f"training.loss.classWeights names {', '.join(unknown)}; the data has {known}."
        raise WrongInputError("ClassUnknown", message, "training.loss.classWeights")
    return {label: weights.get(label, 1.0) for label in labels}


def _maker(name: str) -> Callable[..., TokenLoss]:
    if name in _OWN:
        return _OWN[name]
    offered = entry_points(group=GROUP)
    if name not in offered.names:
        known = ", ".join(sorted({*_OWN, *offered.names}))
        message = f"training.loss.plugin {name} is not installed; there are {known}."
        raise WrongInputError("PluginUnknown", message, "training.loss.plugin")
    maker: Callable[..., TokenLoss] = offered[name].load()
    return maker


def _wrong_settings(config: LossConfig, problems: str) -> WrongInputError:
    message = f"training.loss.settings of {config.plugin}: {problems}"
    return WrongInputError("PluginSettings", message, "training.loss.settings")
