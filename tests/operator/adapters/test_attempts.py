"""What an attempt found: every way in which a verification can end."""

import json
from datetime import timedelta
from typing import Any

import pytest

from adapter_objects import NOW, REPORT, adapter, ended_job, job_of, pod_of, refused, terminated
from fettle_operator.adapters.attempts import (
    Absent,
    Broken,
    Refused,
    Verified,
    finding_of,
    retry_at,
)
from fettle_operator.jobs import attempts_of
from fettle_operator.settings import Backoff

OWNER = adapter()
UID = OWNER["metadata"]["uid"]


def finding(job: dict[str, Any], *pods: dict[str, Any]) -> Any:
    (attempt,) = attempts_of(UID, [job], pods)
    return finding_of(attempt)


def test_a_report_is_believed_as_soon_as_the_container_has_ended() -> None:
    job = job_of(OWNER)

    found = finding(job, pod_of(job, **terminated(0, json.dumps(REPORT))))

    assert isinstance(found, Verified)
    assert found.adapter.rank == 8


def test_a_refusal_carries_the_file_and_the_verifiers_sentence() -> None:
    job = job_of(OWNER)

    found = finding(job, pod_of(job, **terminated(2, refused(file="weights"))))

    assert found == Refused("weights: it is wrong (DigestMismatch)")


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (terminated(1), "Retrying", "ended with code 1"),
        (terminated(137, reason="OOMKilled"), "OutOfMemory", "verifier.resources.limits.memory"),
        (terminated(0, "not json"), "Retrying", "left no readable report"),
        (terminated(2, ""), "Retrying", "left no readable report"),
        (terminated(0, refused()), "Retrying", "reported 'refused'"),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on disk"},
            "Retrying",
            "Evicted: low on disk",
        ),
    ],
)
def test_what_is_not_a_verdict_breaks_the_attempt(status: dict[str, Any], reason: str, words: str) -> None:
    job = ended_job(OWNER)

    found = finding(job, pod_of(job, **status))

    assert isinstance(found, Broken)
    assert found.reason == reason
    assert words in found.message


def test_a_broken_container_counts_only_when_its_job_has_ended() -> None:
    """Otherwise the next attempt could run beside it."""
    job = job_of(OWNER)

    assert finding(job, pod_of(job, **terminated(1))) is None


def test_a_folder_that_is_not_there_is_no_verdict() -> None:
    """A manifest may come before the files it speaks of; only the next attempt tells."""
    message = terminated(2, refused(code="DirectoryMissing"))
    under_way, ended = job_of(OWNER), ended_job(OWNER)

    assert finding(under_way, pod_of(under_way, **message)) is None
    assert finding(ended, pod_of(ended, **message)) == Absent()


@pytest.mark.parametrize("kind", ["Failed", "Complete"])
def test_a_job_that_ended_without_a_pod_breaks_the_attempt(kind: str) -> None:
    found = finding(ended_job(OWNER, kind=kind))

    assert isinstance(found, Broken)
    assert "BackoffLimitExceeded" in found.message


def test_an_attempt_under_way_has_found_nothing() -> None:
    job = job_of(OWNER)

    assert finding(job) is None
    assert finding(job, pod_of(job, phase="Running")) is None


def test_jobs_and_pods_of_others_are_not_believed_whatever_their_labels() -> None:
    ours, other = job_of(OWNER), job_of(adapter(metadata={"uid": "somebody-else"}), attempt=9)
    forged = pod_of({**ours, "metadata": {**ours["metadata"], "uid": "another-job"}}, **terminated(0))

    (attempt,) = attempts_of(UID, [ours, other], [forged])

    assert attempt.number == 1
    assert attempt.pod is None


def test_attempts_come_in_order() -> None:
    jobs = [ended_job(OWNER, 10), ended_job(OWNER, 2), ended_job(OWNER, 1)]

    assert [attempt.number for attempt in attempts_of(UID, jobs, [])] == [1, 2, 10]


def test_the_pause_before_the_next_attempt_doubles_up_to_a_bound() -> None:
    backoff = Backoff(initial_seconds=10, max_seconds=60)
    pauses = [
        retry_at(attempts_of(UID, [ended_job(OWNER, number)], [])[0], backoff) - NOW + timedelta(seconds=30)
        for number in (1, 2, 3, 9, 5000)
    ]

    assert [pause.total_seconds() for pause in pauses] == [20, 40, 60, 60, 60]
