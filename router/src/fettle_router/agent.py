"""The agent's loop: look at the table and the pods, bring them into force, say what is in force.

Every input only wakes the loop. A pass always starts from what is known now, so an event that was lost costs
time, and an input that is broken or away leaves the last good configuration serving.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from fettle_router.allowance import blocked_until, token_limits
from fettle_router.endpoints import SERVICE_LABEL, endpoints
from fettle_router.engine import Engine
from fettle_router.errors import HaproxyFailed, InvalidTable, RouterError
from fettle_router.files import candidate_of
from fettle_router.kube import ApiServer, Objects, follow_for_ever
from fettle_router.layout import Layout
from fettle_router.maps import LOADED
from fettle_router.memory import recall, remember
from fettle_router.render import render
from fettle_router.slots import Slots, assign
from fettle_router.table import Table, parse
from fettle_router.tls import combine
from fettle_router.usage import Readings

__all__ = ["TABLE_KEY", "Agent", "Report", "Source"]

TABLE_KEY: Final = "table.json"
RESYNC_S: Final = 15.0
"""HAProxy's memory is compared with what it should be at least this often."""
CERTIFICATE_POLL_S: Final = 5.0
USAGE_POLL_S: Final = 1.0
"""How long a client can go on after its last token of the minute, at most."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where the routing table comes from."""

    namespace: str
    config_map: str
    tls_secret: Path | None = None
    """Folder of a mounted `kubernetes.io/tls` Secret; without one there is no TLS listener."""


@dataclass(frozen=True)
class Report:
    """What is in force, asked of HAProxy itself."""

    version: int
    """Version of the table that HAProxy has loaded; 0 when it has none."""
    in_force: bool
    """Whether HAProxy's whole memory is what that table and the pods ask for."""
    structure: str
    problem: str | None
    """Why a newer table or certificate is not in force."""


class Agent:
    """One router replica."""

    def __init__(self, source: Source, api: ApiServer, client: aiohttp.ClientSession, layout: Layout) -> None:
        self.engine = Engine(layout)
        self._source = source
        self._api = api
        self._client = client
        self._layout = layout
        self._problems: dict[str, str] = {}
        self._newest: str | None = None
        self._good: str | None = None
        self._slots: dict[str, Slots] = {}
        self._in_force: Table | None = None
        self._readings = Readings()
        self._blocked: dict[str, int] = {}
        self._slices: Objects = {}
        self._services: frozenset[str] = frozenset()
        self._covered: frozenset[str] = frozenset()
        self._serving: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Work until cancelled, or until HAProxy ends, which is an error."""
        try:
            await self._restore()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._end_with_haproxy())
                group.create_task(self._follow_table())
                group.create_task(self._work(group))
                group.create_task(self._look_at_usage())
                if self._source.tls_secret:
                    group.create_task(self._look_at_certificate(self._source.tls_secret))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    @property
    def problem(self) -> str | None:
        """Why something newer than what is in force cannot be used."""
        return "; ".join(self._problems.values()) or None

    async def report(self) -> Report:
        """Return what HAProxy says that it has loaded."""
        try:
            loaded = await self.engine.runtime.loaded()
            return Report(loaded.version, await self.engine.in_force(), loaded.structure, self.problem)
        except HaproxyFailed as error:
            return Report(0, in_force=False, structure="", problem=self.problem or str(error))

    async def _end_with_haproxy(self) -> None:
        status = await self.engine.process.wait()
        raise HaproxyFailed(f"HAProxy has ended with status {status}; its log says why.")

    async def _restore(self) -> None:
        """Serve what was in force before a restart, so that no API server is needed for it."""
        with self._noting("certificate"):
            if self._source.tls_secret:
                self._use_certificate(self._source.tls_secret)
        with self._noting("table"):
            kept = recall(self._layout.last_good)
            if kept:
                self._good, self._slots = kept
                table = parse(self._good)
                await self._serve(table, {pool.name: self._slots.get(pool.name, ()) for pool in table.pools})

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), RESYNC_S)
            self._wake.clear()
            await self._pass(group)

    async def _pass(self, group: asyncio.TaskGroup) -> None:
        """Bring the newest table into force; while it cannot be used, the last good one follows its pods."""
        with self._noting("table"):
            if self._newest is None:
                raise InvalidTable(
                    f"ConfigMap {self._source.config_map} with {TABLE_KEY} has not been seen yet"
                )
            await self._use(self._newest, group)
        if self._good and self._good != self._newest:
            with self._noting("last good table"):
                await self._use(self._good, group)

    async def _use(self, text: str, group: asyncio.TaskGroup) -> None:
        """Serve a table once all its pods are known; the last good one also with the pods known so far."""
        table = parse(text)
        services = frozenset(pool.service for pool in table.pools)
        self._follow_services(group, services)
        if services <= self._covered:
            slots = {
                pool.name: assign(self._slots.get(pool.name, ()), endpoints(pool, self._slices.values()))
                for pool in table.pools
            }
        elif text == self._good:
            slots = {pool.name: self._slots.get(pool.name, ()) for pool in table.pools}
        else:
            return
        await self._serve(table, slots)
        self._good, self._slots, self._serving = text, slots, services
        remember(self._layout.last_good, text, slots)
        if not await self.engine.in_force():
            _log.warning("HAProxy does not have what it should have; reloading it")
            await self.engine.repair()

    async def _serve(self, table: Table, slots: Mapping[str, Slots]) -> None:
        wanted, candidate = (
            render(table, slots, layout, self._blocked)
            for layout in (self._layout, candidate_of(self._layout))
        )
        former = self.engine.current.maps[LOADED] if self.engine.current else None
        await self.engine.serve(wanted, candidate)
        self._in_force = table
        if wanted.maps[LOADED] != former:
            _log.info("version %d of the table is in force", table.version)

    async def _follow_table(self) -> None:
        path = f"/api/v1/namespaces/{self._source.namespace}/configmaps"
        selector = {"fieldSelector": f"metadata.name={self._source.config_map}"}
        await follow_for_ever(self._client, self._api, path, selector, self._take_table)

    def _take_table(self, found: Objects) -> None:
        """Keep the text; a table that was deleted is no order to stop serving."""
        data = found.get(self._source.config_map, {}).get("data") or {}
        self._newest = data.get(TABLE_KEY)
        self._wake.set()

    def _follow_services(self, group: asyncio.TaskGroup, services: frozenset[str]) -> None:
        """Follow the EndpointSlices of all pools that are or may soon be in force."""
        if services <= self._services:
            return
        self._services = services | self._serving
        if self._follower:
            self._follower.cancel()
        self._follower = group.create_task(self._follow_slices(self._services))

    def _follow_slices(self, services: frozenset[str]) -> Coroutine[Any, Any, None]:
        def take(found: Objects) -> None:
            self._slices, self._covered = found, services
            self._wake.set()

        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._source.namespace}/endpointslices"
        selector = {"labelSelector": f"{SERVICE_LABEL} in ({','.join(sorted(services))})"}
        return follow_for_ever(self._client, self._api, path, selector, take)

    async def _look_at_usage(self) -> None:
        """Hold the limits of tokens, which only the pods can count; no pod is asked while there are none."""
        async with aiohttp.ClientSession() as http:
            while True:
                await asyncio.sleep(USAGE_POLL_S)
                limits = token_limits(self._in_force) if self._in_force else {}
                if limits:
                    pods = [pod for slots in self._slots.values() for pod in slots if pod]
                    await self._readings.refresh(http, pods, time.time())
                blocked = blocked_until(limits, self._readings.all(), self._blocked, time.time())
                if blocked != self._blocked:
                    self._blocked = blocked
                    self._wake.set()

    async def _look_at_certificate(self, secret: Path) -> None:
        while True:
            with self._noting("certificate"):
                self._use_certificate(secret)
            await asyncio.sleep(CERTIFICATE_POLL_S)

    def _use_certificate(self, secret: Path) -> None:
        certificate = combine(secret, self._layout.directory)
        if certificate != self._layout.certificate:
            self._layout = replace(self._layout, certificate=certificate)
            self._wake.set()

    @contextlib.contextmanager
    def _noting(self, topic: str) -> Iterator[None]:
        """Turn an error into what the report says about a topic, until it succeeds."""
        try:
            yield
        except RouterError as error:
            if self._problems.get(topic) != str(error):
                _log.warning("%s: %s", topic, error)
            self._problems[topic] = str(error)
        else:
            self._problems.pop(topic, None)
