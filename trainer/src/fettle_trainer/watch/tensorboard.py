"""Event files for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class TensorBoard(Observer):
    """Writes each measurement as a scalar: train/… of the training, eval/… of the evaluations, tuned/… of the result."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def begins(self, at: Position) -> None:
        """Open a file that supersedes what a killed attempt wrote beyond this step."""
        self._writer = self._opened(purge_step=at.step + 1 if at.step else None)

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Write the scalars and flush them, so that they can be watched."""
        for name, value in values.items():
            self._writer.add_scalar(tag(name), value, at.step)
        self._writer.flush()

    def ends(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface
        """Close the file."""
        self._writer.close()

    def came_out(self, step: int, numbers: Mapping[str, float], words: Mapping[str, str]) -> None:
        """Write the result into a file beside the curves, which stay as they are."""
        writer = self._opened(purge_step=None)
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.add_text("result", "\n".join(f"- {name}: {value}" for name, value in words.items()), step)
        writer.close()

    def _opened(self, purge_step: int | None) -> Any:
        # Imported by the runs that ask for it only.
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        return SummaryWriter(str(self._folder), purge_step=purge_step)


def tag(name: str) -> str:
    """Return the group and the name that TensorBoard shows."""
    group, bare = ("eval", name.removeprefix("eval_")) if name.startswith("eval_") else ("train", name)
    return f"{group}/{bare}"
