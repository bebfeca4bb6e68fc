"""Traffic through a real HAProxy while weights, pods and rules change: nothing fails, nobody moves back."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from fettle_router.errors import HaproxyFailed, InvalidConfiguration
from fettle_router.files import candidate_of
from fettle_router.render import render
from fettle_router.table import Table
from router_support.client import Connection
from router_support.running import CHAT, Answered, Router, eventually, running
from router_support.stub import Backend, Received, backend
from router_support.tables import KEY, OTHER_KEY, client, document, main, revision, table

WORKERS = 8


@pytest_asyncio.fixture
async def pods() -> AsyncIterator[list[Backend]]:
    async with backend() as one, backend() as other:
        yield [one, other]


@pytest_asyncio.fixture
async def router(pods: list[Backend]) -> AsyncIterator[Router]:
    async with running() as started:
        await started.serve(at(1, 0), [pod.endpoint for pod in pods])
        yield started


def at(version: int, below: int, **changes: object) -> Table:
    return table(version=version, arms=[main(9999, below)], **changes)


class Load:
    """Requests without a pause from a few workers; every worker goes round the same users."""

    def __init__(self, router: Router, users: int = 400) -> None:
        self._router = router
        self._users = itertools.cycle(f"user-{number}" for number in range(users))
        self.answers: list[tuple[str, Answered]] = []
        self.errors: list[str] = []

    async def send(self, count: int) -> list[tuple[str, Answered]]:
        """Send so many requests and return their answers."""
        before, numbers = len(self.answers), iter(range(count))
        await asyncio.gather(*(self._worker(lambda: next(numbers, None) is not None) for _ in range(WORKERS)))
        return self.answers[before:]

    async def during(self, change: Awaitable[None], at_least: int = 300) -> None:
        """Send for as long as a change takes, and a while before and after it."""
        done = asyncio.Event()
        load = asyncio.gather(*(self._worker(lambda: not done.is_set()) for _ in range(WORKERS)))
        await eventually(lambda: len(self.answers) >= at_least, "requests flow")
        await change
        enough = len(self.answers) + at_least
        await eventually(lambda: len(self.answers) >= enough, "requests flow on")
        done.set()
        await load

    async def _worker(self, go_on: Callable[[], bool]) -> None:
        connection = Connection(self._router.port)
        while go_on():
            user = next(self._users)
            try:
                self.answers.append((user, await connection.post(user)))
            except OSError as error:
                self.errors.append(repr(error))
                await connection.close()
        await connection.close()

    def failures(self) -> list[str]:
        return self.errors + [
            f"{answer.status} {answer.text}" for _, answer in self.answers if answer.status != 200
        ]


async def test_ten_thousand_requests_pass_a_shift_in_100_steps_and_nobody_moves_back(
    router: Router, pods: list[Backend]
) -> None:
    load, held = Load(router, users=2000), {}

    for percent in range(1, 101):
        await router.serve(at(percent + 1, percent * 100), [pod.endpoint for pod in pods])
        answers = await load.send(2000 if percent in {5, 25, 50, 75, 95} else 25)
        if len(answers) == 2000:
            held[percent] = Counter(answer.revision for _, answer in answers)["rev-b"] / 2000

    assert len(load.answers) >= 10_000
    assert load.failures() == []
    assert_nobody_moved_back(load.answers)
    assert held == {percent: pytest.approx(percent / 100, abs=0.02) for percent in (5, 25, 50, 75, 95)}
    assert router.engine.reloads == 1
    assert await router.engine.in_force()


def assert_nobody_moved_back(answers: list[tuple[str, Answered]]) -> None:
    moved = set()
    for user, answer in answers:
        if answer.revision == "rev-b":
            moved.add(user)
        else:
            assert user not in moved, f"{user} went back to the stable revision"
    assert len(moved) > 1800


async def test_a_pod_that_left_its_pool_gets_nothing_more(router: Router, pods: list[Backend]) -> None:
    staying, leaving = pods
    load = Load(router)

    await load.during(router.serve(at(1, 0), [staying.endpoint]))
    leaving.received.clear()
    await load.send(200)

    assert load.failures() == []
    assert leaving.received == []
    assert router.engine.reloads == 1


async def test_a_pod_that_is_killed_fails_only_what_it_was_answering(
    router: Router, pods: list[Backend]
) -> None:
    _, victim = pods
    load, held, over = Load(router), [], asyncio.Event()

    async def hold(request: Received, _: asyncio.StreamWriter) -> None:
        held.append(request)
        await over.wait()

    async def die() -> None:
        victim.answer = hold
        await eventually(lambda: len(held) >= 2, "it is answering some")
        await victim.kill()

    await load.during(die())
    over.set()

    assert len(load.failures()) == len(held)


async def test_a_pod_in_a_slot_that_another_had_serves_at_once(router: Router, pods: list[Backend]) -> None:
    one, other = pods
    await router.serve(at(1, 0), [one.endpoint])
    await one.kill()

    await router.serve(at(1, 0), [other.endpoint])

    assert [(await router.post()).status for _ in range(5)] == [200] * 5


async def test_a_request_that_finds_no_listener_is_tried_once_more_on_the_same_revision(
    router: Router, pods: list[Backend]
) -> None:
    gone, there = pods
    await gone.kill()

    answers = [await router.post(headers={"x-fettle-revision": "rev-b"}) for _ in range(6)]

    assert [answer.status for answer in answers] == [200] * 6
    assert {got.headers["x-fettle-revision"] for got in there.received} == {"rev-b"}


async def test_nothing_is_sent_twice_once_a_pod_has_it(router: Router, pods: list[Backend]) -> None:
    async def hang_up(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for pod in pods:
        pod.answer = hang_up

    answer = await router.post()

    assert answer.status == 502
    assert sum(len(pod.received) for pod in pods) == 1


async def test_a_reload_under_load_drops_nothing(router: Router, pods: list[Backend]) -> None:
    load = Load(router)

    async def reload_three_times() -> None:
        for header in ("x-one", "x-two", "x-three"):
            await router.serve(at(2, 0, sticky={"header": header}), [pod.endpoint for pod in pods])

    await load.during(reload_three_times())

    assert router.engine.reloads == 4
    assert load.failures() == []


async def test_a_key_revoked_with_a_reload_is_dead_on_a_connection_that_was_open(
    router: Router, pods: list[Backend]
) -> None:
    connection = Connection(router.port)
    assert (await connection.post("somebody")).status == 200

    without = {"clients": [client("team-b", OTHER_KEY)]}
    await router.serve(at(2, 0, access=without, sticky={"header": "x-user"}), [pod.endpoint for pod in pods])

    assert router.engine.reloads == 2
    assert (await connection.post("somebody")).status == 401
    await connection.close()


async def test_requests_are_counted_by_revision_and_way(router: Router) -> None:
    await Load(router).send(30)
    await router.post(headers={"x-fettle-revision": "rev-b"})

    counted = {(each.revision, each.route): each.requests for each in await router.engine.runtime.counters()}

    assert counted == {("rev-a", "weighted"): 30, ("rev-b", "pinned"): 1}


async def test_a_stream_goes_on_over_a_reload_and_a_change_of_weight(
    router: Router, pods: list[Backend]
) -> None:
    go_on = asyncio.Event()
    for pod in pods:
        pod.answer = two_halves(go_on)
    async with router.session.post(router.url(CHAT), json={}, headers=authorised()) as answer:
        assert await answer.content.readexactly(5) == b"first"

        await router.serve(at(2, 10_000, sticky={"header": "x-user"}), [])
        go_on.set()

        assert await answer.content.read() == b"second"
    assert router.engine.reloads == 2


def two_halves(go_on: asyncio.Event) -> Callable[[Received, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst")
        await writer.drain()
        await go_on.wait()
        writer.write(b"second")

    return answer


async def endless(_: Received, writer: asyncio.StreamWriter) -> None:
    """Stream until the connection breaks, as a pod that generates tokens does."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"5\r\ntoken\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


def authorised() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


async def test_events_of_a_stream_arrive_one_by_one(router: Router, pods: list[Backend]) -> None:
    """The pod sends an event only when the client has the one before.

    HAProxy's default holds each one back for 200 ms, so that these 150 would take far longer than the deadline.
    """
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def stream(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(150):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            assert await seen.get() == event
        writer.write(b"0\r\n\r\n")

    for pod in pods:
        pod.answer = stream

    async def read() -> None:
        async with router.session.post(
            router.url(CHAT), json={"stream": True}, headers=authorised()
        ) as answer:
            async for event in answer.content.iter_any():
                seen.put_nowait(event)

    await asyncio.wait_for(read(), timeout=15)


async def test_a_pod_learns_that_the_client_has_gone(router: Router, pods: list[Backend]) -> None:
    for pod in pods:
        pod.answer = endless
    async with router.session.post(router.url(CHAT), json={}, headers=authorised()) as answer:
        await answer.content.readexactly(5)
        busy = next(pod for pod in pods if pod.received)
        assert len(busy.open) == 1
        answer.close()

    await eventually(lambda: not busy.open, "the pod's side of the connection ends")


async def test_clients_that_do_not_read_hold_their_pods_back_and_fill_no_memory(
    router: Router, pods: list[Backend]
) -> None:
    async def flood(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 65_536)
            await writer.drain()

    for pod in pods:
        pod.answer = flood
    before = await memory_mib(router)
    lines = (f"POST {CHAT} HTTP/1.1", "Host: bot", f"Authorization: Bearer {KEY}")
    head = "\r\n".join([*lines, "Content-Type: application/json", "Content-Length: 2", "", "{}"]).encode()
    deaf = [await asyncio.open_connection("127.0.0.1", router.port, limit=1024) for _ in range(60)]
    for _, writer in deaf:
        writer.write(head)
    for reader, _ in deaf:
        await reader.readexactly(1)

    assert await memory_mib(router) - before < 16
    for _, writer in deaf:
        writer.transport.abort()


async def memory_mib(router: Router) -> float:
    """Return what HAProxy's worker holds in memory."""
    pid = (await router.engine.runtime.loaded()).pid
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


async def test_a_configuration_that_haproxy_refuses_leaves_the_last_good_one(router: Router) -> None:
    good = router.layout.configuration.read_text()
    wrong = table(version=9, sticky={"header": "x-user"})
    renderings = [
        render(wrong, router.slots, layout) for layout in (router.layout, candidate_of(router.layout))
    ]
    broken = type(renderings[1])(**{**vars(renderings[1]), "configuration": "nonsense\n"})

    with pytest.raises(InvalidConfiguration, match="unknown keyword 'nonsense'"):
        await router.engine.serve(renderings[0], broken)

    assert router.layout.configuration.read_text() == good
    assert (await router.post()).status == 200
    assert await router.engine.in_force()


async def test_a_new_configuration_that_cannot_start_leaves_the_last_good_one(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle_router.process.LOAD_TIMEOUT_S", 1.0)
    good = router.layout.configuration.read_text()
    wanted, candidate = (
        render(at(9, 0, sticky={"header": "x-user"}), router.slots, layout)
        for layout in (router.layout, candidate_of(router.layout))
    )
    gone = type(wanted)(
        **{**vars(wanted), "configuration": wanted.configuration.replace("proto h1", "ssl crt /x")}
    )

    with pytest.raises(HaproxyFailed, match="did not take up"):
        await router.engine.serve(gone, candidate)

    assert router.layout.configuration.read_text() == good
    assert (await router.post()).status == 200


async def test_somebody_elses_change_is_noticed_and_repaired(router: Router) -> None:
    await router.engine.runtime.apply([])
    assert await router.engine.in_force()
    tampered = f"set map {router.layout.map_file('arms')} 0:9999 10000:rollout-1:rev-b:rev-a"
    await router.engine.runtime._ask(tampered)
    assert not await router.engine.in_force()

    await router.engine.repair()

    assert await router.engine.in_force()


async def test_two_pools_serve_their_own_revisions(router: Router, pods: list[Backend]) -> None:
    pools = [*document()["pools"], {"name": "pool-b", "service": "bot-pool-b"}]
    revisions = [revision("rev-a"), revision("rev-b", pool="pool-b")]
    routing = at(2, 5000, pools=pools, revisions=revisions, pins={})
    one, other = pods

    await router.serve(routing, [one.endpoint], pool_b=[other.endpoint])
    await Load(router).send(200)

    assert {got.headers["x-fettle-revision"] for got in one.received} == {"rev-a"}
    assert {got.headers["x-fettle-revision"] for got in other.received} == {"rev-b"}
