"""Why a pod does not run: one table."""

from typing import Any

import pytest

from fettle_operator.pods import obstacle_of, refusal_of, termination_of


def scheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"status": {"phase": "Pending", "conditions": [condition]}}


def waiting(reason: str) -> dict[str, Any]:
    container = {"image": "reg/op:1", "state": {"waiting": {"reason": reason, "message": "because"}}}
    return {"status": {"phase": "Pending", "containerStatuses": [container]}}


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"metadata": {}, "reason": reason, "message": message, "lastTimestamp": at}


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (scheduled("0/1 nodes are available: 1 Insufficient cpu."), "Unschedulable", "Insufficient cpu"),
        (scheduled('persistentvolumeclaim "store" not found'), "ClaimNotFound", "store"),
        (scheduled("pod has unbound immediate PersistentVolumeClaims"), "ClaimNotBound", "unbound"),
        (scheduled(""), "Unschedulable", "no node has been found"),
        (waiting("ErrImagePull"), "ImagePullFailed", "image reg/op:1: ErrImagePull: because"),
        (waiting("ImagePullBackOff"), "ImagePullFailed", "because"),
        (waiting("CreateContainerConfigError"), "ContainerNotCreated", "because"),
    ],
)
def test_the_pods_own_words_name_the_obstacle(pod: dict[str, Any], reason: str, words: str) -> None:
    obstacle = obstacle_of(pod)

    assert obstacle is not None
    assert obstacle.reason == reason
    assert words in obstacle.message


@pytest.mark.parametrize("pod", [{}, waiting("ContainerCreating"), {"status": {"phase": "Running"}}])
def test_a_pod_on_its_way_meets_no_obstacle(pod: dict[str, Any]) -> None:
    assert obstacle_of(pod) is None


def test_an_image_that_is_missing_for_the_first_step_is_named_too() -> None:
    pulls = {"image": "reg/trainer:1", "state": {"waiting": {"reason": "ErrImagePull", "message": "because"}}}
    pod = waiting("PodInitializing")
    pod["status"]["initContainerStatuses"] = [pulls]

    obstacle = obstacle_of(pod)

    assert obstacle is not None
    assert (obstacle.reason, obstacle.message) == (
        "ImagePullFailed",
        "image reg/trainer:1: ErrImagePull: because",
    )


def test_the_newest_event_tells_why_a_volume_is_not_mounted() -> None:
    events = [
        event("FailedMount", "old", at="2026-01-01T00:00:00Z"),
        event("FailedMount", "new", at="2026-01-01T00:01:00Z"),
        event("Pulled", "newest", at="2026-01-01T00:02:00Z"),
    ]

    obstacle = obstacle_of(waiting("ContainerCreating"), events)

    assert obstacle is not None
    assert (obstacle.reason, obstacle.message) == ("VolumeNotMounted", "new")


def test_old_events_say_nothing_about_a_pod_that_runs() -> None:
    assert obstacle_of({"status": {"phase": "Running"}}, [event("FailedMount", "old")]) is None


def test_a_quota_is_told_from_other_refusals() -> None:
    quota = refusal_of([event("FailedCreate", "is forbidden: exceeded quota: small")])
    policy = refusal_of([event("FailedCreate", "violates PodSecurity")])

    assert quota is not None
    assert quota.reason == "QuotaExceeded"
    assert policy is not None
    assert policy.reason == "PodRefused"
    assert refusal_of([event("SuccessfulCreate", "")]) is None


def test_the_end_of_the_container_is_read_with_its_message() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": "last words"}
    pod = {"status": {"containerStatuses": [{"state": {"terminated": ended}}]}}

    termination = termination_of(pod)

    assert termination is not None
    assert termination.out_of_memory
    assert termination.message == "last words"
    assert termination_of({"status": {"phase": "Failed", "reason": "Evicted"}}) is None
