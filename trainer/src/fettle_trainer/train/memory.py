"""How much memory a run needs: a model of it, coarse and on the safe side, from which the settings choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from fettle_trainer.config.adapter import Method

Precision = Literal["fp32", "bf16", "fp16"]
ZeroStage = Literal[0, 1, 2, 3]

_NF4_BYTES: Final = 0.53
"""A 4-bit weight with its doubly quantised scale."""
_ACTIVATIONS_PER_LAYER: Final = 18
"""Values that one layer keeps for the way back, for each token and hidden unit, with an attention that keeps no scores."""
_KEPT_WITH_CHECKPOINTS: Final = 1
_HEADROOM: Final = 1.15
"""Fragments, buffers of the communication, what the model of the memory leaves out."""


@dataclass(frozen=True)
class ModelShape:
    """What the memory depends on."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    trainable: int


@dataclass(frozen=True)
class Load:
    """What is asked of one process."""

    method: Method
    precision: Precision
    micro_batch_size: int
    length: int
    trained_share: float = 1.0
    gradient_checkpointing: bool = False
    zero_stage: ZeroStage = 0
    world_size: int = 1
    eight_bit_optimizer: bool = False
    offload_optimizer: bool = False
    offload_parameters: bool = False


@dataclass(frozen=True)
class Estimate:
    """Bytes for each process."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, with headroom."""
        return int((self.weights + self.gradients + self.optimizer + self.activations) * _HEADROOM)


def estimate(shape: ModelShape, load: Load) -> Estimate:
    """Return what one process needs."""
    sharded = load.world_size
    weights = _weight_bytes(shape, load)
    gradients = shape.trainable * 4.0
    optimizer = shape.trainable * (2.0 if load.eight_bit_optimizer else 8.0)
    if load.zero_stage >= 1:
        optimizer /= sharded
    if load.zero_stage >= 2:
        gradients /= sharded
    if load.zero_stage == 3:
        weights /= sharded
    if load.offload_optimizer or load.offload_parameters:
        optimizer = 0.0
    if load.offload_parameters:
        # Two layers at a time are on the device: the one that computes and the next.
        weights = 2 * weights / max(shape.layers, 1)
    return Estimate(int(weights), int(gradients), int(optimizer), int(_activation_bytes(shape, load)))


def _weight_bytes(shape: ModelShape, load: Load) -> float:
    whole = 4.0 if load.precision == "fp32" else 2.0
    if load.method == "full":
        # Under autocast the weights that the optimizer works on stay fp32.
        return shape.parameters * 4.0
    if load.method == "qlora":
        # What is not quantised peft makes fp32, whatever precision it had.
        embeddings = shape.vocabulary * shape.hidden
        return (shape.parameters - embeddings) * _NF4_BYTES + embeddings * 4.0 + shape.trainable * 4.0
    return shape.parameters * whole + shape.trainable * 4.0


def _activation_bytes(shape: ModelShape, load: Load) -> float:
    value = 4.0 if load.precision == "fp32" else 2.0
    tokens = load.micro_batch_size * load.length
    layer = tokens * shape.hidden * value * _ACTIVATIONS_PER_LAYER
    if load.gradient_checkpointing:
        layers = layer + tokens * shape.hidden * value * _KEPT_WITH_CHECKPOINTS * shape.layers
    else:
        layers = layer * shape.layers
    # Logits, their float32 copy and the gradient; chunks keep it below this.
    logits = min(tokens * load.trained_share * shape.vocabulary * 4.0 * 3, 3 * 256 * 2**20)
    return layers + logits
