"""Model FLOP utilisation: what the model's arithmetic needs, over what the hardware could do.

Training every weight costs 6 FLOP per parameter and token: 2 forward, 2 for the gradients of the activations, 2 for
those of the weights. Frozen weights need no weight gradients, so LoRA and its kin cost 4. Attention adds the products
of queries, keys and values, which grow with the length. Recomputed activations are not counted: they are overhead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fettle_trainer.config.adapter import Method
    from fettle_trainer.train.memory import ModelShape

_FULL: Final = 6
_FROZEN_BASE: Final = 4
_ATTENTION: Final = 6
"""Two products of 2·length·width each, half of them masked, forward once and backward twice."""

_TERA: Final = 1e12
_PEAKS: Final = (
    # Dense bf16 (fp16 where there is no bf16) FLOP/s by a part of the device's name, as the vendors state them. The
    # more particular name comes first.
    ("GH200", 989 * _TERA),
    ("B200", 2250 * _TERA),
    ("H200", 989 * _TERA),
    ("H100 PCIe", 756 * _TERA),
    ("H100", 989 * _TERA),
    ("A100", 312 * _TERA),
    ("A30", 165 * _TERA),
    ("A10G", 70 * _TERA),
    ("L40S", 362 * _TERA),
    ("L4", 121 * _TERA),
    ("V100", 125 * _TERA),
    ("T4", 65 * _TERA),
    ("RTX 4090", 165 * _TERA),
    ("RTX 3090", 71 * _TERA),
    ("MI300X", 1307 * _TERA),
)


def flops_per_token(shape: ModelShape, method: Method, attended_length: float) -> float:
    """Return the arithmetic of one real token, forward and backward."""
    weights = (_FULL if method == "full" else _FROZEN_BASE) * shape.parameters
    return weights + _ATTENTION * shape.layers * shape.hidden * attended_length


def attended_length(lengths_sum: float, squares_sum: float) -> float:
    """Return the length of the row that an average token stands in, from the sums of lengths and of their squares."""
    return squares_sum / lengths_sum if lengths_sum else 0.0


def peak_flops(device_name: str) -> float | None:
    """Return the dense 16-bit FLOP/s of a known accelerator."""
    words = device_name.replace("-", " ").split()
    return next(
        (peak for name, peak in _PEAKS if all(part in words for part in name.split())),
        None,
    )


def utilisation(
    tokens_per_second: float | None, flops: float | None, peak: float | None, devices: int
) -> float | None:
    """Return the share of the peak that was used; None if a figure is missing."""
    if tokens_per_second is None or not flops or not peak:
        return None
    return tokens_per_second * flops / (peak * devices)
