"""What a FineTuneJob's status says: a pure function of what was found.

Two conditions are durable: `DatasetValid` once it is True, and `Finished` once it is True. Everything else is told
anew in each pass.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from fettle_operator.conditions import READY, RECONCILING, STALLED, Condition, Truth, find, timestamp
from fettle_operator.engine.report import Report
from fettle_operator.finetune.checking import dataset_facts
from fettle_operator.finetune.ledger import Ledger
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import Manifest
from fettle_trainer.config.dataset_report import DatasetReport, RunForecast
from fettle_trainer.config.evaluation_report import GateResult
from fettle_trainer.config.outcome import Outcome

__all__ = [
    "DATASET_VALID",
    "FINISHED",
    "Phase",
    "State",
    "checked",
    "evaluation_facts",
    "fields_of",
    "finished",
    "is_checked",
    "refused",
    "resolve",
    "settled",
    "under_way",
    "verdict_in",
    "waiting",
]

DATASET_VALID = "DatasetValid"
FINISHED = "Finished"
Phase = Literal["Pending", "Validating", "Queued", "Running", "Evaluating", "Suspended"]
_FRAME_FIELDS = frozenset({"conditions", "observedGeneration"})
_BASE = "base-"
_MIB = 2**20


class State:
    """What is known of a job besides its conditions; a pass changes it and reports it."""

    def __init__(self, status: Manifest) -> None:
        self.fields = fields_of(status)
        self.ledger = Ledger.read(status)
        valid = find(status.get("conditions", []), DATASET_VALID)
        self.checked = valid is not None and valid.status == "True"

    def put(self, **fields: object) -> None:
        """Set fields of status; None takes one away."""
        for name, value in fields.items():
            if value is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = value

    def status(self, phase: str) -> Manifest:
        """Return the kind's own fields."""
        return {**self.fields, **self.ledger.status(), "phase": phase}


def fields_of(status: Manifest) -> Manifest:
    """Return what status tells besides conditions."""
    return {key: value for key, value in status.items() if key not in _FRAME_FIELDS}


def verdict_in(status: Manifest) -> Condition | None:
    """Return the end that an earlier pass recorded."""
    verdict = find(status.get("conditions", []), FINISHED)
    return verdict if verdict is not None and verdict.status == "True" else None


def is_checked(state: State) -> bool:
    """Tell whether the data was found good."""
    return state.checked


def checked(state: State, report: DatasetReport, *, hardware_known: bool) -> None:
    """Record that the data is good, for good, and what the run is expected to need.

    A check that was not told which GPU the run is for forecasts for a CPU, which is worth nothing then.
    """
    state.put(dataset=dataset_facts(report))
    forecast = report.forecast if hardware_known else None
    state.put(estimate=_estimate(forecast) if forecast else None)
    resolve(state, forecast.resolved if forecast else {})
    state.checked = True


def resolve(state: State, values: Mapping[str, str]) -> None:
    """Show what was chosen for settings that were left open; what was known before of others stays."""
    state.put(resolved={**state.fields.get("resolved", {}), **values} or None)


def _estimate(forecast: RunForecast) -> Manifest:
    memory = {"memory": f"{math.ceil(forecast.memory_bytes / _MIB)}Mi"}
    return memory if forecast.seconds is None else {**memory, "seconds": forecast.seconds}


def under_way(
    state: State, phase: Phase, reason: Reason, message: str, again_in_s: float | None = None
) -> Report:
    """Report that things go their way."""
    return _report(state, phase, (Condition(READY, "False", reason, message),), again_in_s)


def waiting(state: State, phase: Phase, obstacle: Obstacle, again_in_s: float | None = None) -> Report:
    """Report what holds the job up; it goes on by itself when that is out of the way."""
    ready = Condition(READY, "False", obstacle.reason, obstacle.message)
    abnormal = Condition(RECONCILING, "True", obstacle.reason, obstacle.message)
    return _report(state, phase, (ready, abnormal), again_in_s)


def refused(state: State, reason: Reason, problems: Sequence[str]) -> Report:
    """Report a spec with which nothing can be begun; it may still be corrected."""
    ready = Condition(READY, "False", reason, "; ".join(problems))
    return _report(state, "Failed", (ready, Condition(STALLED, "True", reason, ready.message)), None)


def finished(
    state: State, reason: Reason, message: str, now: datetime, again_in_s: float | None = None
) -> Report:
    """Report the end, for good."""
    good = reason == Reason.SUCCEEDED
    state.put(completionTime=timestamp(now))
    ready = Condition(READY, "True" if good else "False", reason, message)
    stalled = () if good else (Condition(STALLED, "True", reason, message),)
    phase = "Succeeded" if good else "Failed"
    return _report(state, phase, (ready, *stalled), again_in_s, over="True")


def settled(status: Manifest, again_in_s: float | None = None) -> Report:
    """Report what is known already: nothing changes any more."""
    stored = status.get("conditions", [])
    known = [known for each in stored if (known := find(stored, each["type"])) is not None]
    return Report(tuple(known), fields_of(status), again_in_s)


def evaluation_facts(outcome: Outcome) -> Manifest | None:
    """Return `status.evaluation`: what was measured, and every gate with its number, missed or kept."""
    base = {
        name.removeprefix(_BASE): value for name, value in outcome.metrics.items() if name.startswith(_BASE)
    }
    tuned = {name: value for name, value in outcome.metrics.items() if not name.startswith(_BASE)}
    facts: Manifest = {"tuned": tuned, "base": base, "gates": [_judged(gate) for gate in outcome.gates]}
    return {key: value for key, value in facts.items() if value} or None


def _judged(gate: GateResult) -> Manifest:
    return {
        "metric": gate.metric,
        "passed": gate.passed,
        "value": gate.value,
        "required": f"{_BOUNDS[gate.bound]} {gate.threshold:g}",
    }


_BOUNDS = {"min": ">=", "max": "<=", "minGainOverBase": "better than base by >="}


def _report(
    state: State,
    phase: str,
    told: tuple[Condition, ...],
    again_in_s: float | None,
    over: Truth = "False",
) -> Report:
    """Put the durable conditions beside what is told now, of which the first is Ready."""
    ready, *others = told
    end = Condition(FINISHED, over, ready.reason, ready.message)
    return Report((ready, _valid(state, ready), end, *others), state.status(phase), again_in_s)


def _valid(state: State, ready: Condition) -> Condition:
    """Return whether the data is good; nothing was begun before it was, so an attempt proves it too."""
    if state.checked or state.ledger.count:
        facts = state.fields.get("dataset", {})
        counts = (facts.get("rows", 0), facts.get("validationRows", 0), facts.get("badRows", 0))
        sentence = "{} rows to train on, {} to validate on, {} bad".format(*counts)
        return Condition(DATASET_VALID, "True", Reason.DATASET_VALID, sentence)
    wrong = ready.reason == Reason.DATASET_INVALID
    return Condition(DATASET_VALID, "False" if wrong else "Unknown", ready.reason, ready.message)
