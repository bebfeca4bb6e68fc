"""The rules on a real HAProxy: who gets in, what is refused, which revision answers and what the pods are told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fettle_router.pods import tag
from fettle_router.split import choose, slot
from fettle_router.table import Table
from router_support.running import CHAT, Router, eventually, running
from router_support.stub import Backend, Received, backend, echo_revision
from router_support.tables import KEY, OTHER_KEY, client, document, main, revision, table

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def only_pod() -> AsyncIterator[Backend]:
    async with backend() as stand_in:
        yield stand_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def only_router() -> AsyncIterator[Router]:
    async with running() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def pod(only_pod: Backend) -> Backend:
    only_pod.received.clear()
    only_pod.answer = echo_revision
    return only_pod


@pytest_asyncio.fixture(loop_scope="module")
async def router(only_router: Router, pod: Backend) -> Router:
    await only_router.serve(table(), [pod.endpoint])
    return only_router


def chance() -> int:
    raise AssertionError("a sticky request is not placed by chance")


async def test_haproxy_places_every_sticky_key_where_the_reference_says(router: Router) -> None:
    keys = [f"user-{number}" for number in range(400)] + ["", "ä-ö", "x" * 300]

    answers = await asyncio.gather(*(router.post(headers={"x-session-id": key}) for key in keys))

    expected = [choose(table(), key, draw=chance).revision for key in keys]
    assert [answer.revision for answer in answers] == expected
    assert {"rev-a", "rev-b", "rev-c"} == set(expected)


async def test_the_share_of_the_candidate_ends_exactly_at_its_bound(router: Router, pod: Backend) -> None:
    key = "somebody"
    position = slot(key, "rollout-1")

    for below, expected in ((position, "rev-a"), (position + 1, "rev-b"), (0, "rev-a"), (10_000, "rev-b")):
        await router.serve(table(arms=[main(9999, below)]), [pod.endpoint])
        assert (await router.post(headers={"x-session-id": key})).revision == expected


async def test_the_sticky_header_comes_before_the_session_and_the_session_before_the_client(
    router: Router, pod: Backend
) -> None:
    routing = table(sticky={"header": "x-user"})
    await router.serve(routing, [pod.endpoint])

    def expected(key: str) -> str:
        return choose(routing, key, draw=chance).revision

    for user in (f"user-{number}" for number in range(20)):
        session = {"x-session-id": "somebody"}
        assert (await router.post(headers={"x-user": user, **session})).revision == expected(user)
        assert (await router.post(headers={"x-session-id": user})).revision == expected(user)
    assert (await router.post(key=OTHER_KEY)).revision == expected("team-b")


async def test_without_a_key_to_stick_to_the_split_follows_the_weights(router: Router, pod: Backend) -> None:
    await router.serve(table(sticky={"byClient": False}, arms=[main(9999, 5000)]), [pod.endpoint])

    answers = await asyncio.gather(*(router.post() for _ in range(1000)))

    share = sum(answer.revision == "rev-b" for answer in answers) / 1000
    assert share == pytest.approx(0.5, abs=0.08)


async def test_the_pod_is_told_revision_route_and_client_and_nothing_the_client_made_up(
    router: Router, pod: Backend
) -> None:
    forged = {
        "x-fettle-client": "root",
        "x-fettle-anything": "1",
        "x-forwarded-for": "10.0.0.1",
        "x-original-url": "/v1/load_lora_adapter",
        "x-request-id": "mine",
        "Cookie": "session=1",
        "x_fettle_client": "root",
    }

    answer = await router.post("/v1/completions?admin=1", headers=forged, model="bot@rev-b")

    (got,) = pod.received
    assert got.line == "POST /v1/completions HTTP/1.1"
    told = {name: value for name, value in got.headers.items() if "fettle" in name}
    assert told == {
        "x-fettle-revision": "rev-b",
        "x-fettle-role": "canary",
        "x-fettle-route": "pinned",
        "x-fettle-client": "team-a",
    }
    assert got.headers["host"] == "bot"
    assert not {"authorization", "cookie", "x-forwarded-for", "x-original-url"} & got.headers.keys()
    assert got.headers["x-request-id"] == answer.headers["x-request-id"] != "mine"


async def test_the_pod_is_told_what_a_revision_is_to_the_rollout(router: Router, pod: Backend) -> None:
    await router.serve(table(revisions=[*document()["revisions"][:3], revision("rev-d")]), [pod.endpoint])

    for pin in ("rev-a", "rev-b", "formal", "rev-d"):
        await router.post(headers={"x-fettle-revision": pin, "x-fettle-role": "stable"})

    assert [got.headers["x-fettle-role"] for got in pod.received] == ["stable", "canary", "variant", ""]


async def test_a_rating_goes_to_the_pod_that_gave_the_answer_and_counts_for_no_revision(
    router: Router, pod: Backend
) -> None:
    async with backend() as other:
        await router.serve(table(), [pod.endpoint, other.endpoint])
        before = await router.engine.runtime.counters()
        for stand_in in (pod, other, pod, pod, other, other):
            rated = await router.post("/feedback", id=f"chatcmpl-5f-{tag(stand_in.endpoint)}", rating="up")
            assert (rated.status, rated.revision) == (200, "")

        assert [got.line for got in pod.received] == ["POST /feedback HTTP/1.1"] * 3
        assert [got.headers["x-fettle-client"] for got in other.received] == ["team-a"] * 3
        assert await router.engine.runtime.counters() == before


@pytest.mark.parametrize("body", [{}, {"id": 5}, {"id": ""}, {"id": "chatcmpl-5f"}, {"id": "a-00000000"}])
async def test_a_rating_of_an_answer_that_no_pod_gave_is_404(
    router: Router, pod: Backend, body: dict[str, Any]
) -> None:
    rated = await router.post("/feedback", rating="up", **body)

    assert rated.status == 404
    assert json.loads(rated.text)["error"]["code"] == "unknown_response"
    assert (await router.post("/feedback", key="nobody's", **body)).status == 401
    assert pod.received == []


PINS = [
    ({"x-fettle-revision": "rev-b"}, {}, 200, "rev-b"),
    ({"x-fettle-revision": "formal"}, {}, 200, "rev-c"),
    ({}, {"model": "bot@rev-b"}, 200, "rev-b"),
    ({}, {"model": "org/bot-large@formal"}, 200, "rev-c"),
    ({"x-fettle-revision": "rev-b"}, {"model": "bot@rev-b"}, 200, "rev-b"),
    ({"x-fettle-revision": "rev-b"}, {"model": "bot"}, 200, "rev-b"),
    ({"x-fettle-revision": "rev-a"}, {"model": "bot@rev-b"}, 400, "contradicting_revisions"),
    ({"x-fettle-revision": "rev-c"}, {}, 404, "revision_not_found"),
    ({"x-fettle-revision": ""}, {}, 404, "revision_not_found"),
    ({"x-fettle-revision": "rev-b "}, {}, 200, "rev-b"),
    ({"x-fettle-revision": "REV-B"}, {}, 404, "revision_not_found"),
    ({}, {"model": "bot@"}, 404, "revision_not_found"),
    ({}, {"model": "bot@rev-b@rev-a"}, 404, "revision_not_found"),
    ({}, {"model": "@rev-b"}, 404, "model_not_found"),
    ({}, {"model": "other"}, 404, "model_not_found"),
    ({}, {"model": ""}, 404, "model_not_found"),
    ({"x-fettle-revision": "rev-d"}, {}, 503, "revision_not_ready"),
]


@pytest.mark.parametrize(("headers", "body", "status", "outcome"), PINS)
async def test_a_pin_is_obeyed_or_refused_at_weight_0_too(
    router: Router, pod: Backend, headers: dict[str, str], body: dict[str, str], status: int, outcome: str
) -> None:
    await router.serve(weight_0(), [pod.endpoint])

    answer = await router.post(headers=headers, **body)

    assert answer.status == status
    if status == 200:
        assert answer.revision == outcome
        assert answer.headers["x-fettle-route"] == "pinned"
    else:
        assert json.loads(answer.text)["error"]["code"] == outcome
        assert pod.received == []


def weight_0() -> Table:
    return table(arms=[main(9999, 0), {"name": "formal", "bounds": None, "revision": "rev-c"}])


async def test_a_pin_to_a_pool_without_a_pod_is_503_and_not_another_revision(router: Router) -> None:
    await router.serve(table(), [])

    answer = await router.post(headers={"x-fettle-revision": "rev-b"})

    assert answer.status == 503
    assert json.loads(answer.text)["error"]["type"] == "server_error"


async def test_a_model_pin_is_seen_in_a_body_of_32_kilobytes(router: Router) -> None:
    answer = await router.post(messages=[{"role": "user", "content": "x" * 32_000}], model="bot@rev-b")

    assert (answer.status, answer.revision) == (200, "rev-b")


REFUSALS = [
    ("POST", "/v1/load_lora_adapter", {}, 404),
    ("POST", "/metrics", {}, 404),
    ("GET", "/adapters", {}, 404),
    ("POST", "/v1/chat/completions/", {}, 404),
    ("POST", "/v1/../v1/chat/completions", {}, 404),
    ("POST", "//v1/chat/completions", {}, 404),
    ("POST", "/V1/chat/completions", {}, 404),
    ("POST", "/v1/chat%2fcompletions", {}, 404),
    ("GET", CHAT, {}, 405),
    ("DELETE", CHAT, {}, 405),
    ("POST", "/v1/models", {}, 405),
    ("POST", CHAT, {"Authorization": ""}, 401),
    ("POST", CHAT, {"Authorization": "Bearer wrong"}, 401),
    ("POST", CHAT, {"Authorization": f"Basic {KEY}"}, 401),
    ("POST", CHAT, {"Authorization": KEY}, 401),
    ("POST", CHAT, {"Authorization": f"Bearer {KEY}, Bearer x"}, 400),
    ("GET", "/v1/models", {"Authorization": "Bearer "}, 401),
    ("GET", "/v1/models/none", {}, 404),
    ("POST", CHAT, {"Content-Type": "text/plain"}, 415),
    ("POST", CHAT, {"Content-Type": "application/jsonp"}, 415),
    ("POST", CHAT, {"Content-Encoding": "gzip"}, 415),
    ("POST", CHAT, {"x-padding": "x" * 17_000}, 431),
    ("POST", CHAT, {"Content-Length": "1048577"}, 413),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), REFUSALS)
async def test_what_is_not_allowed_is_refused_in_openai_shape_and_reaches_no_pod(
    router: Router, pod: Backend, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    sent = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Content-Length": "2",
    } | headers
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    lines = [f"{method} {path} HTTP/1.1", "Host: bot", *(f"{name}: {value}" for name, value in sent.items())]

    writer.write("\r\n".join([*lines, "", "{}"]).encode())
    head, _, body = (await reader.readuntil(b"}}")).partition(b"\r\n\r\n")

    assert head.split()[1] == str(status).encode()
    assert {"message", "type", "param", "code"} == json.loads(body)["error"].keys()
    assert pod.received == []
    writer.close()


async def test_models_are_listed_with_their_pinnable_names(router: Router) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with router.session.get(router.url("/v1/models"), headers=headers) as answer:
        listed = [item["id"] for item in (await answer.json())["data"]]
    async with router.session.get(router.url("/v1/models/bot%40formal"), headers=headers) as answer:
        card = await answer.json()

    assert listed == ["bot", "org/bot-large", "bot@formal", "bot@rev-a", "bot@rev-b", "bot@rev-d"]
    assert (card["id"], card["revision"], card["parent"]) == ("bot@formal", "rev-c", "bot")


async def test_a_revoked_key_is_refused_and_its_successor_works_without_a_reload(
    router: Router, pod: Backend
) -> None:
    def with_keys(version: int, *keys: str) -> Table:
        return table(version=version, access={"clients": [client("team-a", *keys)]})

    await router.serve(with_keys(2, "old", "new"), [pod.endpoint])
    reloads = router.engine.reloads
    assert [(await router.post(key=key)).status for key in ("old", "new", KEY)] == [200, 200, 401]

    await router.serve(with_keys(3, "new"), [pod.endpoint])
    assert [(await router.post(key=key)).status for key in ("old", "new")] == [401, 200]
    assert router.engine.reloads == reloads


async def test_an_open_table_needs_no_key_and_knows_nobody(router: Router, pod: Backend) -> None:
    await router.serve(table(access={"mode": "open"}), [pod.endpoint])

    assert (await router.post(key=None)).status == 200
    assert pod.received[0].headers["x-fettle-client"] == "anonymous"


async def test_a_table_without_clients_lets_nobody_in(router: Router, pod: Backend) -> None:
    await router.serve(table(access={"mode": "keys"}), [pod.endpoint])

    assert (await router.post()).status == 401


async def test_requests_above_the_rate_get_429_and_do_not_count_themselves(
    router: Router, pod: Backend
) -> None:
    limited = {"clients": [client("hasty", KEY, requestsPerMinute=3), client("team-b", OTHER_KEY)]}
    await router.serve(table(access=limited), [pod.endpoint])

    answers = [await router.post() for _ in range(5)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert json.loads(answers[-1].text)["error"]["code"] == "rate_limit"
    assert (await router.post(key=OTHER_KEY)).status == 200
    assert len(pod.received) == 4


async def test_a_client_without_tokens_is_refused_until_the_minute_is_over(
    router: Router, pod: Backend
) -> None:
    limited, now = table(limits={"tokensPerMinute": 100}), int(time.time())
    await router.serve(limited, [pod.endpoint], blocked={"team-a": now + 30})
    reloads = router.engine.reloads
    refused, other = await router.post(), await router.post(key=OTHER_KEY)

    # HAProxy lets the time run out by itself, so that no client stays refused when the agent is away.
    await router.serve(limited, [pod.endpoint], blocked={"team-a": now - 1})
    later = await router.post()

    assert [answer.status for answer in (refused, other, later)] == [429, 200, 200]
    assert json.loads(refused.text)["error"]["code"] == "token_limit"
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert router.engine.reloads == reloads


async def test_a_raised_limit_holds_at_once(router: Router, pod: Backend) -> None:
    for version, limit in ((2, 1), (3, 3)):
        limited = {"clients": [client("raised", KEY, requestsPerMinute=limit)]}
        await router.serve(table(version=version, access=limited), [pod.endpoint])
        answers = [await router.post() for _ in range(2)]
        assert [answer.status for answer in answers] == ([200, 429] if limit == 1 else [200, 200])


async def test_only_so_many_requests_of_a_client_run_at_once(router: Router, pod: Backend) -> None:
    release = asyncio.Event()

    async def hold(request: Received, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await echo_revision(request, writer)

    pod.answer = hold
    await router.serve(table(limits={"concurrency": 2}), [pod.endpoint])
    running_now = [asyncio.create_task(router.post()) for _ in range(2)]
    await eventually(lambda: len(pod.received) == 2, "both requests reach the pod")

    third, other = await router.post(), asyncio.create_task(router.post(key=OTHER_KEY))
    release.set()

    assert third.status == 429
    assert json.loads(third.text)["error"]["code"] == "concurrency_limit"
    assert [(await each).status for each in (*running_now, other)] == [200, 200, 200]
    assert (await router.post()).status == 200


async def test_what_a_pod_says_about_the_revision_is_replaced(router: Router, pod: Backend) -> None:
    async def lie(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nx-fettle-revision: other\r\nx-fettle-spy: 1\r\nContent-Length: 0\r\n\r\n"
        )

    pod.answer = lie
    answer = await router.post(headers={"x-fettle-revision": "rev-b"})

    assert answer.revision == "rev-b"
    assert "x-fettle-spy" not in answer.headers


async def test_a_secret_key_is_nowhere_in_what_the_router_writes(router: Router) -> None:
    await router.post()

    written = [path.read_text() for path in router.layout.directory.rglob("*") if path.is_file()]
    assert document()["access"]["clients"][0]["keyHashes"][0] in "".join(written)
    assert KEY not in "".join(written)
