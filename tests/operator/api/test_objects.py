"""How objects are read, written and compared."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from fettle_operator.api.adapter import Adapter, AdapterStatus
from fettle_operator.api.base import Condition, InvalidObjectError, refused_changes, same
from fettle_operator.api.finetunejob import FineTuneJob
from fettle_operator.api.output import Output
from fettle_operator.api.scalars import quantity_value
from spec_table import FULL_SPECS, MINIMAL_SPECS
from spec_table.rows import changed


def manifest(kind: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    whole = {"apiVersion": "fettle.dev/v1alpha1", "kind": kind, "metadata": {"name": "mine"}, "spec": spec}
    return whole | ({} if status is None else {"status": status})


def job(spec: dict[str, Any] | None = None, **status: Any) -> FineTuneJob:
    return FineTuneJob.read(manifest("FineTuneJob", spec or FULL_SPECS["FineTuneJob"][0], status))


STARTED = [{"number": 1, "jobName": "mine-a1", "outcome": "Running"}]


def test_every_problem_of_an_object_is_reported_at_once_with_its_path() -> None:
    spec = changed(MINIMAL_SPECS["FineTuneJob"], "lora", {"rank": 0})
    spec = changed(spec, "dataset.train", [{}, {"volume": {"claimName": "c", "path": ".."}}])
    spec = changed(spec, "surprise", 1)

    with pytest.raises(InvalidObjectError) as refusal:
        FineTuneJob.read(manifest("FineTuneJob", spec))

    assert [problem.split(": ")[0] for problem in refusal.value.problems] == [
        "spec.dataset.train[0]",
        "spec.dataset.train[1].volume.path",
        "spec.lora.rank",
        "spec.surprise",
    ]


def test_every_broken_rule_of_one_object_is_reported_under_its_own_field() -> None:
    spec = MINIMAL_SPECS["FineTuneJob"] | {"method": "full", "lora": {}, "output": {"exports": ["adapter"]}}

    with pytest.raises(InvalidObjectError) as refusal:
        FineTuneJob.read(manifest("FineTuneJob", spec))

    assert [problem.split(": ")[0] for problem in refusal.value.problems] == [
        "spec.lora",
        "spec.output.exports",
    ]


def test_a_status_that_somebody_forged_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidObjectError, match=r"status\.phase: "):
        Adapter.read(manifest("Adapter", MINIMAL_SPECS["Adapter"], {"phase": "Excellent"}))


def test_an_object_that_nobody_has_looked_at_has_observed_generation_minus_one() -> None:
    assert Adapter.read(manifest("Adapter", MINIMAL_SPECS["Adapter"])).status.observed_generation == -1


def test_a_full_spec_is_written_as_it_was_read() -> None:
    spec = FULL_SPECS["FineTuneJob"][0]
    assert job(spec).spec.manifest() == spec


def test_a_moment_is_written_in_utc_with_whole_seconds() -> None:
    moment = datetime(2026, 1, 1, 1, 30, 0, 999_999, tzinfo=timezone(timedelta(hours=1)))
    condition = Condition(type="Ready", status="True", reason="Done", message="", last_transition_time=moment)
    assert condition.manifest()["lastTransitionTime"] == "2026-01-01T00:30:00Z"


def test_a_moment_is_read_as_kubernetes_writes_it() -> None:
    condition = Condition.model_validate(
        {
            "type": "Ready",
            "status": "True",
            "reason": "Done",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:30:00Z",
        }
    )
    assert condition.last_transition_time == datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


def test_a_value_that_json_cannot_carry_never_gets_into_a_status() -> None:
    with pytest.raises(ValidationError):
        AdapterStatus(alpha=float("nan"))


def test_two_conditions_of_one_type_are_refused() -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Done",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:30:00Z",
    }
    with pytest.raises(InvalidObjectError, match=r"status\.conditions\[1\]: 'Ready' is given twice"):
        Adapter.read(manifest("Adapter", MINIMAL_SPECS["Adapter"], {"conditions": [ready, ready]}))


@pytest.mark.parametrize(
    ("quantity", "value"),
    [
        (2, "2"),
        ("1.5", "1.5"),
        ("500m", "0.5"),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("1G", "1000000000"),
        ("2Pi", "2251799813685248"),
    ],
)
def test_a_quantity_has_the_value_that_kubernetes_gives_it(quantity: int | str, value: str) -> None:
    assert quantity_value(quantity) == Decimal(value)


def test_something_else_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="'1Zi' is no quantity"):
        quantity_value("1Zi")


def test_the_order_of_a_set_means_nothing_and_that_of_other_lists_does() -> None:
    one, other = Output(exports=["adapter", "merged"]), Output(exports=["merged", "adapter"])
    assert same(one, other)
    assert not same(one, Output(exports=["adapter", "gguf"]))
    assert not same(one, Output())
    assert not same([1, 2], [2, 1])


def test_before_the_first_attempt_the_whole_spec_of_a_job_may_change() -> None:
    assert refused_changes(job(), job(MINIMAL_SPECS["FineTuneJob"], attempts=STARTED)) == ()


def test_after_the_first_attempt_each_changed_field_is_refused_by_name() -> None:
    spec = changed(FULL_SPECS["FineTuneJob"][0], "training.batchSize", 64)
    spec = changed(spec, "scheduling.queueName", "other")
    spec = changed(spec, "profile", "cpu")

    refused = refused_changes(job(attempts=STARTED), job(spec, attempts=STARTED))

    assert [problem.split(": ")[0] for problem in refused] == [
        "spec.training",
        "spec.profile",
        "spec.scheduling.queueName",
    ]


def test_after_the_first_attempt_suspend_retries_and_ttl_may_still_change() -> None:
    spec = FULL_SPECS["FineTuneJob"][0]
    for field, value in (("suspend", True), ("retries", 9), ("ttlSecondsAfterFinished", 1)):
        spec = changed(spec, f"scheduling.{field}", value)
    assert refused_changes(job(attempts=STARTED), job(spec, attempts=STARTED)) == ()


def test_the_spec_of_an_adapter_never_changes() -> None:
    before = Adapter.read(manifest("Adapter", FULL_SPECS["Adapter"][0]))
    after = Adapter.read(manifest("Adapter", FULL_SPECS["Adapter"][1]))
    assert refused_changes(before, before) == ()
    assert refused_changes(before, after) == ("spec: spec is immutable; create another Adapter",)
