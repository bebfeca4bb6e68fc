"""Puts the parts together and runs them until the process is told to stop."""

import asyncio
import logging
import os
import random
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf

from fettle_operator import health, metrics
from fettle_operator.adapters.reconcile import AdapterController
from fettle_operator.adapters.usage import USER_KINDS, UsageIndex
from fettle_operator.cluster import PAGE, Credentials, KubeCluster
from fettle_operator.cluster.progress import HttpProgress
from fettle_operator.cluster.transport import Transport
from fettle_operator.engine.backoff import pause_after
from fettle_operator.engine.frame import Pass
from fettle_operator.engine.loops import Loops, Pace
from fettle_operator.engine.report import Controller
from fettle_operator.engine.resync import Listener, Resync
from fettle_operator.errors import ClusterError, InvalidConfiguration, NotFound
from fettle_operator.finetune.progress import Desk
from fettle_operator.finetune.reconcile import FineTuneJobController
from fettle_operator.labels import MANAGED_SELECTOR
from fettle_operator.resources import FINETUNEJOBS, INFERENCEDEPLOYMENTS, ApiResource, Manifest, ObjectRef
from fettle_operator.settings import Settings
from fettle_operator.unavailable import UnavailableController
from fettle_operator.wiring.login import login_with
from fettle_operator.wiring.storage import NoDiffBase, NoProgress
from fettle_operator.wiring.watches import CHILDREN, KINDS, watch

__all__ = ["Ports", "run"]

logger = logging.getLogger(__name__)

_GRACE_S = 8.0
"""Time that passes under way have to finish after SIGTERM; the pod's own grace is longer."""
_ENDING_S = 5.0
"""Time that kopf has to end the process once everything of ours has stopped."""


@dataclass(frozen=True)
class Ports:
    """Where the process answers."""

    probes: int = 8080
    metrics: int = 9090


async def run(settings: Settings, credentials: Credentials, ports: Ports) -> None:
    """Run the operator until it is stopped by a signal."""
    measured = metrics.Metrics()
    heartbeat = health.Heartbeat()
    chance = random.Random()  # noqa: S311 - jitter is no secret
    async with AsyncExitStack() as stack:
        stack.callback(health.serve_probes(heartbeat, ports.probes).shutdown)
        stack.callback(metrics.serve(measured, ports.metrics).shutdown)
        cluster = KubeCluster(await stack.enter_async_context(Transport(credentials, measured)))
        usage = UsageIndex()
        desk = Desk(await stack.enter_async_context(HttpProgress()))
        controllers: list[Controller] = [
            AdapterController(cluster, settings, usage),
            FineTuneJobController(cluster, settings, desk, measured.jobs),
            UnavailableController(INFERENCEDEPLOYMENTS),
        ]
        passes = _passes(controllers, cluster, measured)
        loops = Loops(passes, Pace(settings.resync_seconds, settings.backoff), measured, chance)
        resync = Resync(
            KINDS, settings.watch_namespaces, cluster, loops, _listener(usage, measured.jobs), measured
        )
        registry = kopf.OperatorRegistry()
        login_with(registry, credentials)
        watch(registry, loops, usage)
        beat = asyncio.create_task(health.beat_forever(heartbeat, loops.measure), name="heartbeat")
        await _first_list(resync, settings, chance)
        heartbeat.become_ready()
        logger.info("ready: all objects have been listed")
        again = resync.run_forever(settings.resync_seconds, settings.backoff.max_seconds, chance)
        _stop_in_order(registry, loops, (beat, asyncio.create_task(again, name="resync")))
        await kopf.operator(
            registry=registry,
            settings=_kopf_settings(),
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
        )


async def _first_list(resync: Resync, settings: Settings, chance: random.Random) -> None:
    """List everything before the watches begin; without the CRDs there is nothing to watch."""
    failures = 0
    while True:
        try:
            return await resync.run()
        except NotFound as error:
            raise InvalidConfiguration(
                f"the API server does not know Fettle's resources ({error}); "
                "install them with the chart's crds.enabled=true, or apply crds/"
            ) from error
        except ClusterError as error:
            failures += 1
            logger.warning("the first list failed: %s", error)
            await asyncio.sleep(pause_after(error, failures, settings.backoff, chance))


def _passes(
    controllers: Sequence[Controller], cluster: KubeCluster, measured: metrics.Metrics
) -> dict[ApiResource, Pass]:
    return {each.resource: Pass(each, cluster, measured, lambda: datetime.now(UTC)) for each in controllers}


def _listener(usage: UsageIndex, series: metrics.JobSeries) -> Listener:
    def listed(resource: ApiResource, manifests: Sequence[Manifest]) -> frozenset[ObjectRef]:
        if resource == FINETUNEJOBS:
            series.keep_only(
                [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in manifests]
            )
        return usage.replace_all(resource, manifests) if resource in USER_KINDS else frozenset()

    return listed


def _stop_in_order(
    registry: kopf.OperatorRegistry, loops: Loops, background: Sequence[asyncio.Task[None]]
) -> None:
    """Let passes under way finish before kopf cancels every task of the process."""

    @kopf.on.cleanup(registry=registry, id="stop")
    async def stop(**_: Any) -> None:
        await loops.stop(_GRACE_S)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        logger.info("stopped")
        _end_at_the_latest(_ENDING_S)


def _end_at_the_latest(seconds: float) -> None:
    """End the process even if kopf does not: when several watches fail at once, it may wait for one for ever (1.45, seen)."""
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True  # needs no permission on CRDs and namespaces
    settings.posting.enabled = False  # events are posted by the frame, on transitions
    settings.networking.request_timeout = 20
    settings.watching.chunk_size = PAGE
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    for resource in CHILDREN:
        selector = (resource.group, resource.version, resource.plural)
        settings.watching.label_selectors[selector] = MANAGED_SELECTOR
    return settings
