"""Looking for what keeps attempts from running: one question for all who wait, and the fewer the more there are."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_cluster import FakeCluster
from fettle_operator.jobs import Attempt
from fettle_operator.lookout import Lookout
from fettle_operator.resources import EVENTS

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def attempt(name: str) -> Attempt:
    created = (NOW - timedelta(seconds=10)).isoformat()
    metadata = {"namespace": "team", "name": name, "uid": f"uid-of-{name}", "creationTimestamp": created}
    return Attempt(1, {"metadata": metadata, "spec": {}}, ())


async def refuse(cluster: FakeCluster, name: str) -> None:
    event: dict[str, Any] = {
        "metadata": {"namespace": "team", "name": f"{name}.1"},
        "involvedObject": {"uid": f"uid-of-{name}"},
        "type": "Warning",
        "reason": "FailedCreate",
        "message": f"exceeded quota: pods of {name}",
    }
    await cluster.create(EVENTS, event)


async def test_all_who_wait_at_the_same_time_cost_one_list() -> None:
    cluster = FakeCluster()
    for number in range(20):
        await refuse(cluster, f"job-{number}")
    cluster.calls.clear()
    lookout = Lookout(cluster)

    found = await asyncio.gather(
        *(lookout.obstacle_of(attempt(f"job-{number}"), NOW) for number in range(20))
    )

    assert [each and each.message for each in found] == [
        f"exceeded quota: pods of job-{number}" for number in range(20)
    ]
    assert cluster.calls == [("list", "events")]


async def test_news_are_seen_by_the_next_look() -> None:
    cluster, lookout = FakeCluster(), None
    lookout = Lookout(cluster)
    assert await lookout.obstacle_of(attempt("job"), NOW) is None
    await refuse(cluster, "job")

    found = await lookout.obstacle_of(attempt("job"), NOW + timedelta(seconds=5))

    assert found is not None
    assert found.reason == "QuotaExceeded"


@pytest.mark.parametrize(("waiting", "pause_s"), [(1, 5), (250, 5), (1000, 20)])
def test_the_more_wait_the_less_often_each_looks(waiting: int, pause_s: float) -> None:
    lookout = Lookout(FakeCluster())

    pauses = [lookout.again_in_s(attempt(f"job-{number}").job, NOW) for number in range(waiting)]

    assert pauses[-1] == pause_s
    later = NOW + timedelta(minutes=10)
    assert lookout.again_in_s(attempt("job-0").job, later) == 60, "those who are gone no longer count"
