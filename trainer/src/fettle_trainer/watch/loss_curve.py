"""`loss.png`: the training and the validation loss over the steps."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.watch.metrics_file import read_metrics
from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

CURVE_NAME: Final = "loss.png"
_CURVES: Final = {"loss": "training", "eval_loss": "validation"}


class LossCurve(Observer):
    """Draws the curve when the run is over."""

    def __init__(self, path: Path, metrics: Path) -> None:
        self._path = path
        self._metrics = metrics

    def ends(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface
        """Draw, unless nothing was measured."""
        curves = loss_curves(read_metrics(self._metrics))
        if any(points for points in curves.values()):
            write_atomically(self._path, draw(curves))


def loss_curves(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each curve by its name for people."""
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in _CURVES.values()}
    for line in lines:
        for key, name in _CURVES.items():
            if line.get(key) is not None:
                curves[name].append((line["step"], line[key]))
    return curves


def draw(curves: Mapping[str, list[tuple[int, float]]]) -> bytes:
    """Return the picture as PNG."""
    # Only who draws pays for the import, which takes longer than some runs here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in curves.items():
        if points:
            steps, losses = zip(*points, strict=True)
            axes.plot(steps, losses, label=name, marker="o" if len(points) < 30 else None, markersize=3)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
