"""Which of a store's rows are trained and validated on, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fettle_trainer.config.dataset_report import FindingCode, TokenFacts
from fettle_trainer.data.findings import Findings, merged
from fettle_trainer.errors import WrongInputError
from fettle_trainer.text.overlong import Kept, keep
from fettle_trainer.text.statistics import automatic_length, length_histogram, quantile

if TYPE_CHECKING:
    from fettle_trainer.config.dataset_report import DatasetReport
    from fettle_trainer.config.run import TrainingConfig
    from fettle_trainer.text.store import TokenStore

_LISTED: Final = 20
_MOST_DROPPED: Final = 0.5
"""Dropping more than this share is no longer what somebody means who has not asked for it."""


@dataclass(frozen=True)
class Selection:
    """The rows that remain, and the report with what was found about them."""

    train: Kept
    validation: Kept
    facts: TokenFacts
    report: DatasetReport


def select(  # noqa: PLR0913 - what the choice depends on
    store: TokenStore,
    report: DatasetReport,
    names: tuple[str, ...],
    training: TrainingConfig,
    *,
    max_length: int | None,
    positions: int | None,
) -> Selection:
    """Apply the maximum length and the policy for longer rows."""
    limit, reason = _limit(store.rows["length"], training.max_length, max_length, positions)
    train, validation = (_kept(store, training, limit, validation=held) for held in (False, True))
    facts = _facts(store, train, validation, (limit, reason), training)
    findings = Findings()
    _note(findings, store, names, train, limit, training)
    _note(findings, store, names, validation, limit, training)
    failed = training.overlong == "fail" and facts.overlong > 0
    total = int((~store.rows["validation"]).sum())
    if not len(train.rows):
        findings.add(
            FindingCode.NOTHING_TO_TRAIN,
            f"No row to train on is left: all are longer than {limit} tokens, or nothing of them is trained. "
            "Set training.maxLength higher, or overlong to truncate.",
        )
        failed = True
    elif training.overlong == "auto" and len(train.overlong) > _MOST_DROPPED * total:
        findings.add(
            FindingCode.OVERLONG,
            f"{len(train.overlong)} of {total} rows are longer than {limit} tokens and would be dropped. "
            "Set training.maxLength higher if the model allows it, or training.overlong to drop or truncate.",
        )
        failed = True
    passed = report.passed and not failed
    return Selection(train, validation, facts, _with(report, facts, findings, passed=passed))


def _limit(
    lengths: np.ndarray, configured: int | None, given: int | None, positions: int | None
) -> tuple[int, str]:
    if configured is not None and positions is not None and configured > positions:
        msg = f"training.maxLength is {configured}; the model has {positions} positions. Set it to at most that."
        raise WrongInputError("SettingInvalid", msg, "training.maxLength")
    if given is not None:
        return (
            (given, "given")
            if positions is None or given <= positions
            else (positions, "the model has no more positions")
        )
    return (configured, "as set") if configured is not None else automatic_length(lengths, positions)


def _kept(store: TokenStore, training: TrainingConfig, limit: int, *, validation: bool) -> Kept:
    rows = np.flatnonzero(store.rows["validation"] == validation)
    return keep(
        rows,
        store.rows["length"][rows],
        store.rows["trained"][rows],
        limit=limit,
        policy=training.overlong,
        trained_within=lambda row, length: int(store.mask(row, length).sum()),
    )


def _facts(
    store: TokenStore, train: Kept, validation: Kept, limit: tuple[int, str], training: TrainingConfig
) -> TokenFacts:
    lengths = store.rows["length"]
    tokens, trained = int(train.lengths.sum()), int(train.trained.sum())
    overlong = len(train.overlong) + len(validation.overlong)
    truncates = training.overlong == "truncate"
    return TokenFacts(
        max_length=limit[0],
        max_length_reason=limit[1],
        rows=len(train.rows),
        validation_rows=len(validation.rows),
        tokens=tokens,
        trained_tokens=trained,
        trained_token_share=trained / tokens if tokens else 0.0,
        longest=int(lengths.max(initial=0)),
        median=quantile(lengths, 0.5),
        p99=quantile(lengths, 0.99),
        histogram=length_histogram(lengths),
        overlong=overlong,
        dropped=0 if truncates else overlong,
        truncated=overlong if truncates else 0,
        untrained=len(train.untrained) + len(validation.untrained),
    )


def _note(  # noqa: PLR0913, PLR0917 - what a finding is made of
    findings: Findings,
    store: TokenStore,
    names: tuple[str, ...],
    kept: Kept,
    limit: int,
    training: TrainingConfig,
) -> None:
    fate = {"fail": "training.overlong is fail", "truncate": "its end is cut off"}.get(
        training.overlong, "it is dropped"
    )
    severity: Literal["error", "warning"] = "error" if training.overlong == "fail" else "warning"
    for row in kept.overlong[:_LISTED]:
        place = store.rows[row]
        message = f"The row has {place['length']} tokens, more than the maximum length {limit}: {fate}."
        findings.add(
            FindingCode.OVERLONG,
            message,
            severity=severity,
            file=names[place["file"]],
            line=int(place["line"]),
        )
    for row in kept.untrained[:_LISTED]:
        place = store.rows[row]
        message = f"Nothing of the row is trained: no token of its answer is among the first {limit}. It is left out."
        findings.add(
            FindingCode.NOTHING_TO_TRAIN,
            message,
            severity="warning",
            file=names[place["file"]],
            line=int(place["line"]),
        )
    _count_the_rest(findings, FindingCode.OVERLONG, len(kept.overlong))
    _count_the_rest(findings, FindingCode.NOTHING_TO_TRAIN, len(kept.untrained))


def _count_the_rest(findings: Findings, code: FindingCode, total: int) -> None:
    if total > _LISTED:
        findings.count(code, findings.counts[code] + total - _LISTED)


def _with(report: DatasetReport, facts: TokenFacts, findings: Findings, *, passed: bool) -> DatasetReport:
    counts = {
        code: report.counts.get(code, 0) + findings.counts.get(code, 0)
        for code in (*report.counts, *findings.counts)
    }
    return report.model_copy(
        update={
            "passed": passed,
            "tokens": facts,
            "counts": counts,
            "findings": merged(report.findings, findings.kept),
        }
    )
