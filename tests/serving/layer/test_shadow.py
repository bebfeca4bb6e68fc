"""Shadow copies: when they begin, whom they never hurt, and what is kept of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from asgi_calls import Call, Exchange, Reply, app_of, call, scope, until
from fettle_server.layer.admin_routes import ShadowEndpoint
from fettle_server.layer.facts import RequestFacts, facts_of
from fettle_server.layer.pairs import PairStore
from fettle_server.layer.stack import Layer
from fettle_server.layer.surroundings import Surroundings
from fettle_server.shadow import PairSettings, ShadowSettings

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "my secret"}]}
MAIN = {"x_fettle_revision": "rev-a", "x_fettle_route": "weighted"}


class Server:
    """An app that notes who asks, may be busy, and lets the test hold up one of the two answers."""

    def __init__(self, pairs_folder: Path | None = None) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.busy = False
        self.go = {"rev-a": asyncio.Event(), "shadow-x": asyncio.Event()}
        self.ended: list[str] = []
        around = Surroundings(lambda: {"base", "rev-a", "shadow-x"}, lambda: self.busy, pairs_folder)
        self.layer = Layer(app_of(self._answer), around)
        for event in self.go.values():
            event.set()

    async def _answer(self, exchange: Exchange) -> None:
        headers = {name.decode(): value.decode() for name, value in exchange.scope["headers"]}
        body = (await exchange.receive())["body"]
        facts = facts_of(exchange.scope)
        facts.revision = headers["x-fettle-revision"]
        self.asked.append((facts.revision, facts.priority, body))
        await exchange.start()
        await exchange.write(b"first ")
        gone, go = (asyncio.ensure_future(it) for it in (exchange.receive(), self.go[facts.revision].wait()))
        done, _ = await asyncio.wait({gone, go}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        go.cancel()
        if go not in done:
            self.ended.append(facts.revision)
            return
        facts.said(f"{facts.revision} answers")
        facts.finished("stop")
        await exchange.write(f"{facts.revision} answers".encode(), last=True)

    def shadow(self, **settings: Any) -> None:
        whole = {"revision": "shadow-x", "percent": 100, **settings}
        self.layer.shadow.configure(ShadowSettings.model_validate(whole))

    @property
    def outcomes(self) -> dict[str, int]:
        return {name: count for name, count in self.layer.shadow.outcomes.items() if count}


async def test_the_same_request_is_answered_by_the_shadow_too_and_nobody_sees_it() -> None:
    server = Server()
    server.shadow()
    reply = await call(server.layer, "POST", CHAT, BODY, **MAIN)
    await until(lambda: server.outcomes == {"answered": 1})
    assert reply.body == b"first rev-a answers"
    text = json.dumps(BODY).encode()
    assert server.asked == [("rev-a", "user", text), ("shadow-x", "shadow", text)]
    sample = server.layer.metrics.registry.get_sample_value
    of_users = {"revision": "rev-a", "role": "", "route": "weighted", "code": "200"}
    of_copies = {"revision": "shadow-x", "role": "shadow", "route": "mirror", "code": "200"}
    assert sample("fettle_server_requests_total", of_users) == 1
    assert sample("fettle_server_requests_total", of_copies) == 1


async def test_the_copy_begins_with_the_main_answer_and_not_before() -> None:
    server, first_bytes = Server(), asyncio.Event()
    server.shadow()
    server.go["rev-a"].clear()
    sent = Call(Reply(), body=[b"{}"])

    async def slow_client(message: Any) -> None:
        await sent.send(message)
        if message["type"] == "http.response.body":
            await first_bytes.wait()

    headers = {name.replace("_", "-"): value for name, value in MAIN.items()}
    task = asyncio.create_task(server.layer(scope("POST", CHAT, headers), sent.receive, slow_client))
    await until(lambda: sent.reply.chunks)
    assert [who for who, _, _ in server.asked] == ["rev-a"]
    first_bytes.set()
    await until(lambda: server.outcomes == {"answered": 1})
    assert not sent.reply.complete
    server.go["rev-a"].set()
    await task


@pytest.mark.parametrize(
    "headers",
    [
        {**MAIN, "x_fettle_route": "pinned"},
        {"x_fettle_revision": "rev-a"},
        {"x_fettle_revision": "shadow-x", "x_fettle_route": "weighted"},
    ],
)
async def test_pinned_direct_and_own_requests_have_no_copy(headers: dict[str, str]) -> None:
    server = Server()
    server.shadow()
    await call(server.layer, "POST", CHAT, BODY, **headers)
    await asyncio.sleep(0)
    assert len(server.asked) == 1
    assert server.outcomes == {}


async def test_an_answer_without_a_byte_has_no_copy() -> None:
    async def nothing(exchange: Exchange) -> None:
        await exchange.receive()
        await exchange.start()
        await exchange.write(b"", last=True)

    layer = Layer(app_of(nothing), Surroundings(lambda: {"shadow-x"}, lambda: False))
    layer.shadow.configure(ShadowSettings(revision="shadow-x", percent=100))
    await call(layer, "POST", CHAT, BODY, **MAIN)
    assert not layer.shadow._running


async def test_about_the_wanted_share_is_copied() -> None:
    server = Server()
    server.shadow(percent=25)
    for _ in range(400):
        await call(server.layer, "POST", CHAT, BODY, **MAIN)
    assert 50 <= sum(server.outcomes.values()) <= 150


async def test_a_busy_server_makes_no_copy() -> None:
    server = Server()
    server.shadow()
    server.busy = True
    await call(server.layer, "POST", CHAT, BODY, **MAIN)
    assert server.outcomes == {"dropped": 1}


async def test_a_copy_that_runs_gives_way_when_users_come() -> None:
    server = Server()
    server.shadow()
    server.go["shadow-x"].clear()
    await call(server.layer, "POST", CHAT, BODY, **MAIN)
    await until(lambda: len(server.asked) == 2)
    server.busy = True
    await call(server.layer, "POST", CHAT, BODY, x_fettle_revision="rev-a", x_fettle_route="pinned")
    await until(lambda: server.ended == ["shadow-x"])
    await until(lambda: server.outcomes == {"dropped": 1})


async def test_no_more_copies_run_at_a_time_than_allowed() -> None:
    server = Server()
    server.shadow(maxRunning=2)
    server.go["shadow-x"].clear()
    for _ in range(5):
        await call(server.layer, "POST", CHAT, BODY, **MAIN)
    assert server.outcomes == {"dropped": 3}
    server.go["shadow-x"].set()
    await until(lambda: server.outcomes == {"dropped": 3, "answered": 2})


async def test_a_revision_that_is_not_loaded_is_counted_as_failed() -> None:
    server = Server()
    server.shadow(revision="nowhere")
    reply = await call(server.layer, "POST", CHAT, BODY, **MAIN)
    assert (reply.status, server.outcomes) == (200, {"failed": 1})


async def pair_of(server: Server, folder: Path) -> dict[str, Any]:
    reply = await call(server.layer, "POST", CHAT, BODY, **MAIN)
    assert reply.complete
    await until(lambda: list(folder.glob("*.jsonl")))
    (file,) = folder.glob("*.jsonl")
    await until(lambda: file.read_bytes().endswith(b"\n"))
    line: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return line


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.shadow()
    await call(server.layer, "POST", CHAT, BODY, **MAIN)
    await until(lambda: server.outcomes == {"answered": 1})
    await until(lambda: not server.layer.shadow._running)
    assert list(tmp_path.iterdir()) == []


async def test_a_pair_holds_both_answers_and_no_prompt(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.shadow(pairs={})
    pair = await pair_of(server, tmp_path)
    assert pair["main"]["choices"][0]["text"] == "rev-a answers"
    assert pair["shadow"]["choices"][0]["text"] == "shadow-x answers"
    assert "my secret" not in json.dumps(pair)
    assert pair["request"]["bytes"] == len(json.dumps(BODY))


async def test_prompts_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.shadow(pairs={"keepPrompts": True})
    assert (await pair_of(server, tmp_path))["request"]["body"] == BODY


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def keep(store: PairStore, settings: PairSettings) -> None:
    facts = RequestFacts()
    facts.said("x" * 300_000)
    await store.keep(CHAT, b"{}", facts, facts, settings)


async def test_pairs_expire_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    await keep(PairStore(tmp_path, clock), PairSettings(ttl_hours=2))
    foreign = tmp_path / "pairs-of-someone-else.jsonl"
    foreign.touch()
    clock.now += 2 * 3600
    again = PairStore(tmp_path, clock)
    await again.sweep()
    assert len(list(tmp_path.iterdir())) == 2
    clock.now += 3600
    await again.sweep()
    assert list(tmp_path.iterdir()) == [foreign]


async def test_the_oldest_pairs_make_room_within_the_cap(tmp_path: Path) -> None:
    clock = Clock()
    store, settings = PairStore(tmp_path, clock), PairSettings(max_mebibytes=1)
    for _ in range(12):
        await keep(store, settings)
        clock.now += 3600
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert 0 < sum(sizes) <= 2**20
    assert len(sizes) < 12
    newest = max(file.name for file in tmp_path.iterdir())
    for _ in range(12):
        await keep(store, settings)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2**20
    assert max(file.name for file in tmp_path.iterdir()) > newest


async def test_the_operator_sets_and_reads_the_settings() -> None:
    server = Server()
    endpoint = ShadowEndpoint(server.layer.shadow)
    put = await call(endpoint, "PUT", "/shadow", {"revision": "shadow-x", "percent": 12.5})
    assert put.status == 200
    shown = (await call(endpoint, "GET", "/shadow")).json()
    assert (shown["revision"], shown["percent"], shown["maxRunning"]) == ("shadow-x", 12.5, 2)
    assert shown["outcomes"] == {"answered": 0, "dropped": 0, "failed": 0}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"percent": 101}, "percent"),
        ({"revison": "shadow-x"}, "revison"),
        ({"pairs": {"ttlHours": 0}}, "pairs.ttlHours"),
        ({"revision": "shadow-x", "pairs": {}}, "pairs: this server has no folder"),
    ],
)
async def test_wrong_settings_are_refused_and_change_nothing(settings: dict[str, Any], field: str) -> None:
    server = Server()
    server.shadow(percent=50)
    reply = await call(ShadowEndpoint(server.layer.shadow), "PUT", "/shadow", settings)
    assert reply.status == 400
    assert field in reply.json()["error"]["message"]
    assert server.layer.shadow.settings.percent == 50


async def test_the_folder_is_swept_while_the_server_lives(tmp_path: Path) -> None:
    expired = tmp_path / "pairs-3600-7200.jsonl"
    expired.touch()
    stop = asyncio.Event()

    async def lifespan(exchange: Exchange) -> None:
        await exchange.receive()

    async def receive() -> dict[str, str]:
        await stop.wait()
        return {"type": "lifespan.shutdown"}

    layer = Layer(app_of(lifespan), Surroundings(lambda: (), lambda: False, tmp_path))
    task = asyncio.create_task(layer({"type": "lifespan"}, receive, Call(Reply()).send))
    await until(lambda: not expired.exists())
    stop.set()
    await task
