"""What came out of a run, told to the trackers that followed it: scores beside the base's, gates, and the artefact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle_trainer.watch.mlflow import Mlflow
from fettle_trainer.watch.tensorboard import TensorBoard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fettle_trainer.config.evaluation_report import EvaluationReport
    from fettle_trainer.config.run import RunConfig


@dataclass(frozen=True)
class RunResult:
    """The end of a run that was trained, proven and measured."""

    step: int
    """Of the checkpoint that it was made from."""
    digest: str
    """Of the artefact, which was released if it missed no gate."""
    report: EvaluationReport | None
    missed: str = ""
    """A sentence on the gates that were missed."""

    def numbers(self) -> dict[str, float]:
        """Return the scores as tuned/… and base/…, and what each gate was judged by as gate/…."""
        if self.report is None:
            return {}
        scores = {"tuned": self.report.tuned, "base": self.report.base or {}}
        named = {
            f"{model}/{metric}": value for model, found in scores.items() for metric, value in found.items()
        }
        return named | {f"gate/{gate.metric}-{gate.bound}": gate.value for gate in self.report.gates}

    def words(self) -> dict[str, str]:
        """Return what is no number, by name."""
        gates = self.report.gates if self.report is not None else ()
        verdict = (self.missed or "passed") if gates else "none"
        return {
            "fettle.digest": self.digest,
            "fettle.released": str(not self.missed).lower(),
            "fettle.gates": verdict,
        }


def tell_trackers(config: RunConfig, work: Path, result: RunResult, tell: Callable[[str], None]) -> None:
    """Tell the trackers that the run has asked for; none of them can fail the run."""
    tracking = config.tracking
    if tracking.tensorboard:
        try:
            TensorBoard(work / "tensorboard").came_out(result.step, result.numbers(), result.words())
        except Exception as error:  # noqa: BLE001 - the result stands, whoever hears of it
            tell(f"TensorBoard was not told what came out: {type(error).__name__}: {error}")
    if tracking.mlflow is not None:
        mlflow = Mlflow(tracking.mlflow, config.output.adapter_name, {}, work, tell)
        mlflow.came_out(result.step, result.numbers(), result.words(), released=not result.missed)
