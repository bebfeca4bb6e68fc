"""The agent against a real API server and a real HAProxy: it follows what is good and keeps it when things break."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from devcluster.apiserver import ApiServer as RealApi
from fettle_router.__main__ import main as main_program
from fettle_router.agent import Agent, Source
from fettle_router.errors import HaproxyFailed
from fettle_router.kube import ApiServer, session
from fettle_router.layout import Layout
from fettle_router.memory import remember
from fettle_router.slots import assign
from fettle_router.status import application
from free_ports import free_port, free_ports
from router_support.running import CHAT, eventually, require_haproxy
from router_support.stub import Backend, Received, backend, echo_revision, json_answer
from router_support.tables import KEY, OTHER_KEY, client, document, main

CONFIG_MAP = "bot-routing"


@pytest.fixture
def own_address() -> str:
    """An address of this machine that is not loopback, because the API refuses that for a pod; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.fixture
def layout() -> Iterator[Layout]:
    require_haproxy()
    clients, metrics, tls = (f"127.0.0.1:{port}" for port in free_ports(3))
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="fettle-router-") as directory:
        yield Layout(Path(directory), clients=clients, metrics=metrics, tls_clients=tls, threads=1)


@dataclass
class World:
    """A namespace of a real API server, written to as the operator and the EndpointSlice controller would."""

    api: RealApi
    namespace: str

    def table(self, **changes: Any) -> None:
        self.text(json.dumps(document(**changes)))

    def text(self, text: str) -> None:
        content = {"metadata": {"name": CONFIG_MAP}, "data": {"table.json": text}}
        self._put(f"/api/v1/namespaces/{self.namespace}/configmaps", content)

    def pods(self, *pods: Backend, service: str = "bot-pool-a", **conditions: bool) -> None:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        for number, pod in enumerate(pods):
            content = {
                "metadata": {
                    "name": f"{service}-{number}",
                    "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": pod.endpoint.port}],
                "endpoints": [
                    {"addresses": [pod.endpoint.address], "conditions": {"ready": True} | conditions}
                ],
            }
            self._put(path, content)

    def _put(self, path: str, content: dict[str, Any]) -> None:
        name = content["metadata"]["name"]
        if self.api.api().find(f"{path}/{name}"):
            self.api.api().request("PUT", f"{path}/{name}", content)
        else:
            self.api.api().request("POST", path, content)


@pytest.fixture
def world(apiserver: RealApi, namespace: str) -> World:
    return World(apiserver, namespace)


@pytest_asyncio.fixture
async def pods(own_address: str) -> AsyncIterator[list[Backend]]:
    async with backend(address=own_address) as one, backend(address=own_address) as other:
        yield [one, other]


@contextlib.asynccontextmanager
async def running_agent(
    layout: Layout, api: ApiServer, namespace: str = "none", tls: Path | None = None
) -> AsyncIterator[Agent]:
    async with session(api) as http:
        agent = Agent(Source(namespace, CONFIG_MAP, tls), api, http, layout)
        work = asyncio.create_task(agent.run())
        try:
            yield agent
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, HaproxyFailed):
                await work
            await agent.engine.process.stop(grace_s=0)


def reachable(api: RealApi, tmp_path: Path, url: str | None = None) -> ApiServer:
    token = tmp_path / "token"
    token.write_text(f"{api.token}\n")
    return ApiServer(url or api.url, api.ca, token)


@pytest_asyncio.fixture
async def agent(world: World, layout: Layout, tmp_path: Path, pods: list[Backend]) -> AsyncIterator[Agent]:
    world.table()
    world.pods(pods[0])
    async with running_agent(layout, reachable(world.api, tmp_path), world.namespace) as started:
        await version(started, 1)
        yield started


async def version(agent: Agent, wanted: int) -> None:
    async def is_in_force() -> bool:
        report = await agent.report()
        return report.in_force and report.version == wanted

    await eventually(is_in_force, f"version {wanted} is in force: {agent.problem}")


async def call(layout: Layout, key: str = KEY, **headers: str) -> tuple[int, str]:
    sent = {"Authorization": f"Bearer {key}"} | headers
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://{layout.clients}{CHAT}", json={}, headers=sent) as got,
    ):
        return got.status, got.headers.get("x-fettle-revision", "")


@pytest.mark.apiserver
async def test_table_and_pods_of_the_api_server_are_served(agent: Agent, layout: Layout) -> None:
    assert await call(layout, **{"x-fettle-revision": "rev-b"}) == (200, "rev-b")
    assert agent.problem is None


@pytest.mark.apiserver
async def test_a_weight_and_a_revoked_key_arrive_without_a_reload(
    agent: Agent, layout: Layout, world: World
) -> None:
    world.table(version=2, arms=[main(9999, 10_000)], access={"clients": [client("team-a", KEY)]})
    await version(agent, 2)

    assert await call(layout) == (200, "rev-b")
    assert await call(layout, OTHER_KEY) == (401, "")
    assert agent.engine.reloads == 1


@pytest.mark.apiserver
async def test_a_broken_table_leaves_the_last_good_one_which_still_follows_its_pods(
    agent: Agent, layout: Layout, world: World, pods: list[Backend]
) -> None:
    world.table(version=2, arms=[main(8000)])
    await eventually(lambda: agent.problem is not None, "the problem is told")
    assert "slots 8001 to 9999 belong to no arm" in str(agent.problem)

    world.pods(pods[1])
    await pods[0].kill()

    async def moved() -> bool:
        return pods[1].endpoint in await agent.engine.runtime.slots("pool-a")

    await eventually(moved, "the new pod is in rotation")
    assert (await call(layout))[0] == 200
    assert (await agent.report()).version == 1

    world.table(version=3)
    await version(agent, 3)
    await eventually(lambda: agent.problem is None, "the problem is over")


@pytest.mark.apiserver
async def test_a_deleted_table_leaves_the_last_good_one(agent: Agent, layout: Layout, world: World) -> None:
    world.api.api().delete(f"/api/v1/namespaces/{world.namespace}/configmaps/{CONFIG_MAP}")
    await eventually(lambda: agent.problem is not None, "the problem is told")

    assert CONFIG_MAP in str(agent.problem)
    assert (await call(layout))[0] == 200


@pytest.mark.apiserver
@pytest.mark.parametrize("condition", [{"ready": False}, {"terminating": True}], ids=str)
async def test_a_pod_that_is_not_ready_any_more_leaves_rotation(
    agent: Agent, layout: Layout, world: World, pods: list[Backend], condition: dict[str, bool]
) -> None:
    world.pods(pods[0], **condition)

    async def empty() -> bool:
        return not any(await agent.engine.runtime.slots("pool-a"))

    await eventually(empty, "the slot is free", within_s=2)
    assert (await call(layout))[0] == 503


@pytest.mark.apiserver
async def test_a_new_pool_is_used_only_once_its_pods_are_known(
    agent: Agent, layout: Layout, world: World, pods: list[Backend]
) -> None:
    world.pods(pods[1], service="bot-pool-b")
    pools = [*document()["pools"], {"name": "pool-b", "service": "bot-pool-b"}]
    revisions = [{**each, "pool": "pool-b"} for each in document()["revisions"]]
    world.table(version=2, pools=pools, revisions=revisions)
    statuses = set()

    async def changed() -> bool:
        statuses.add((await call(layout))[0])
        return (await agent.report()).version == 2

    await eventually(changed, "the second version is in force")
    assert statuses == {200}
    assert (await call(layout))[0] == 200
    assert pods[1].received


@pytest.mark.apiserver
async def test_without_the_api_server_it_serves_on_even_after_a_restart_and_catches_up(
    world: World, layout: Layout, tmp_path: Path, pods: list[Backend]
) -> None:
    world.table()
    world.pods(pods[0])
    async with Tunnel(world.api.url) as tunnel:
        api = reachable(world.api, tmp_path, tunnel.url)
        async with running_agent(layout, api, world.namespace) as first:
            await version(first, 1)
            await tunnel.cut()
            assert (await call(layout))[0] == 200

        async with running_agent(layout, api, world.namespace) as second:
            await version(second, 1)
            assert (await call(layout))[0] == 200

            world.table(version=2)
            await tunnel.mend()
            await version(second, 2)


class Tunnel:
    """A way to the API server that can be cut."""

    def __init__(self, url: str) -> None:
        self._target = int(url.rpartition(":")[2])
        self._port = free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def cut(self) -> None:
        if self._server:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, there}
        await asyncio.gather(self._copy(reader, there), self._copy(there_reader, writer))

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(65536):
                target.write(block)
                await target.drain()
        target.close()


@pytest.fixture
def nowhere(tmp_path: Path) -> ApiServer:
    """An API server that is away."""
    token = tmp_path / "token"
    token.write_text("none")
    port = free_port()
    return ApiServer(f"https://127.0.0.1:{port}", certificate(tmp_path / "ca", "nobody") / "tls.crt", token)


@pytest.fixture
def kept(layout: Layout, pods: list[Backend]) -> Layout:
    """What an earlier run of the agent has left behind."""
    remember(layout.last_good, json.dumps(document()), {"pool-a": assign((), [pods[0].endpoint])})
    return layout


def certificate(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    files = ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"), "-subj", f"/CN={name}"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return folder


def served_certificate(address: str) -> str:
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


async def test_a_new_certificate_is_served_and_a_broken_one_is_not(
    kept: Layout, nowhere: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle_router.agent.CERTIFICATE_POLL_S", 0.05)
    folder = certificate(tmp_path / "tls", "first")
    async with running_agent(kept, nowhere, tls=folder) as agent:
        await version(agent, 1)

        async def is_served() -> bool:
            return (
                await asyncio.to_thread(served_certificate, kept.tls_clients)
                == (folder / "tls.crt").read_text()
            )

        assert await is_served()
        certificate(folder, "second")
        await eventually(is_served, "the new certificate is served")
        second = await asyncio.to_thread(served_certificate, kept.tls_clients)

        (folder / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        await eventually(lambda: "HAProxy refuses" in str(agent.problem), "it is refused")
        assert await asyncio.to_thread(served_certificate, kept.tls_clients) == second


async def test_tokens_that_the_pods_counted_are_held_against_the_limit(
    layout: Layout, nowhere: ApiServer, pods: list[Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle_router.agent.USAGE_POLL_S", 0.05)
    spent = 40

    async def tell(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.line == "GET /usage HTTP/1.1":
            writer.write(json_answer(windowSeconds=60, clients={"team-a": [[0, spent]], "team-b": [[0, 5]]}))
        else:
            await echo_revision(request, writer)

    for pod in pods:
        pod.answer = tell
    limited = document(limits={"tokensPerMinute": 100})
    remember(layout.last_good, json.dumps(limited), {"pool-a": assign((), [pod.endpoint for pod in pods])})

    async with running_agent(layout, nowhere) as agent:
        await version(agent, 1)
        await eventually(lambda: all(pod.received for pod in pods), "every pod is asked")
        assert (await call(layout))[0] == 200
        spent = 50

        async def refused() -> bool:
            return (await call(layout))[0] == 429

        await eventually(refused, "both pods together have counted 100")
        assert (await call(layout, OTHER_KEY))[0] == 200
        await pods[1].kill()
        assert (await call(layout))[0] == 429


async def test_when_haproxy_ends_the_agent_ends_with_a_sentence(kept: Layout, nowhere: ApiServer) -> None:
    async with session(nowhere) as http:
        agent = Agent(Source("none", CONFIG_MAP), nowhere, http, kept)
        work = asyncio.create_task(agent.run())
        await version(agent, 1)

        await agent.engine.process.stop(grace_s=0)

        with pytest.raises(HaproxyFailed, match="HAProxy has ended"):
            await work


async def test_the_agent_tells_what_is_loaded(kept: Layout, nowhere: ApiServer) -> None:
    async with running_agent(kept, nowhere) as agent, served(agent) as (url, http):
        await version(agent, 1)
        await call(kept)
        async with http.get(f"{url}/version") as answer:
            told = await answer.json()
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        async with http.get(f"{url}/metrics") as answer:
            metrics = await answer.text()

    assert (told["version"], told["inForce"]) == (1, True)
    assert "fettle_router_table_version 1.0" in metrics
    assert 'fettle_router_requests_total{revision="rev-' in metrics


async def test_a_router_without_a_table_is_not_ready_and_says_why(layout: Layout, nowhere: ApiServer) -> None:
    async with running_agent(layout, nowhere) as agent, served(agent) as (url, http):
        async with http.get(f"{url}/readyz") as answer:
            assert answer.status == 503
        async with http.get(f"{url}/healthz") as answer:
            assert answer.status == 200


@contextlib.asynccontextmanager
async def served(agent: Agent) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    runner = web.AppRunner(application(agent))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with aiohttp.ClientSession() as http:
        yield f"http://127.0.0.1:{port}", http
    await runner.cleanup()


@pytest.fixture
def process(kept: Layout, nowhere: ApiServer) -> Iterator[subprocess.Popen[bytes]]:
    port = free_port()
    flags = {
        "--namespace": "none",
        "--table": CONFIG_MAP,
        "--directory": str(kept.directory),
        "--listen": kept.clients,
        "--listen-metrics": kept.metrics,
        "--listen-agent": f"127.0.0.1:{port}",
        "--api-server": nowhere.url,
        "--api-ca": str(nowhere.ca),
        "--api-token": str(nowhere.token),
    }
    words = [word for flag in flags.items() for word in flag]
    source = str(Path(__file__).parents[2] / "router/src")
    command = [sys.executable, "-m", "fettle_router", *words]
    environment = {"PYTHONPATH": source, "PATH": "/usr/sbin:/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment, start_new_session=True) as started:
        yield started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


async def test_a_router_that_is_told_to_stop_finishes_what_it_is_answering(
    process: subprocess.Popen[bytes], kept: Layout, pods: list[Backend]
) -> None:
    release = asyncio.Event()

    async def hold(_: object, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    pods[0].answer = hold

    async def first_answer() -> int:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                return (await call(kept))[0]
            await asyncio.sleep(0.05)

    answering = asyncio.create_task(first_answer())
    await eventually(lambda: bool(pods[0].received), "the pod is answering")
    process.send_signal(signal.SIGTERM)

    async def refused() -> bool:
        try:
            await asyncio.open_connection(*kept.clients.split(":"))
        except ConnectionRefusedError:
            return True
        return False

    await eventually(refused, "no new connection is taken")
    release.set()

    assert await answering == 200
    assert await asyncio.to_thread(process.wait, 10) == 0


def test_a_folder_too_deep_for_a_socket_is_a_sentence(
    nowhere: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ["--namespace", "n", "--table", "t", "--directory", f"/tmp/{'x' * 80}"]
    api = ["--api-server", nowhere.url, "--api-ca", str(nowhere.ca), "--api-token", str(nowhere.token)]

    assert main_program([*flags, *api]) == 1
    assert "is too long for the sockets in it" in caplog.text
