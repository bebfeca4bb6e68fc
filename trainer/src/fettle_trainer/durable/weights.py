"""Whether the adapter in a checkpoint is one: sharded training can leave tensors that are empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from safetensors import safe_open

from fettle_trainer.errors import IncompleteError

if TYPE_CHECKING:
    from pathlib import Path

ADAPTER_NAME: Final = "adapter_model.safetensors"


def ensure_adapter_is_whole(folder: Path) -> None:
    """Raise if the adapter's file has no tensors or one without elements; only its header is read."""
    with safe_open(folder / ADAPTER_NAME, framework="numpy") as file:
        names = list(file.keys())
        empty = [name for name in names if 0 in file.get_slice(name).get_shape()]
    if empty or not names:
        what = f"the tensor {empty[0]} is empty" if empty else "it holds no tensors"
        raise IncompleteError(
            "AdapterEmpty",
            f"The adapter in {folder.name} was not gathered from all ranks: {what}. The checkpoint is not kept.",
            ADAPTER_NAME,
        )
