"""What many FineTuneJobs cost the operator: a burst of them against a real API server, with a stub for the nodes.

`PYTHONPATH=.:tests/support:operator/src:trainer/src .venv/bin/python benchmarks/operator/run.py [JOBS] [--profile FILE]`. It starts
etcd and kube-apiserver by itself. The request counts are gates of tests/integration/test_finetune_faults.py; times are
printed here. `--profile` measures the burst under cProfile, which slows it down, and keeps what pstats reads.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from devcluster import apiserver, binaries, build
from devcluster.waiting import wait_until
from faults.background import Background
from faults.nodes import NodeStub
from faults.operator_process import OperatorProcess, configuration
from faults.upstream import Upstream
from fettle_operator.resources import CLAIMS, FINETUNEJOBS, ApiResource
from finetune_stage import job, lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from devcluster.apiserver import ApiServer

ROOT = Path(__file__).parents[2]
NAMESPACE = "benchmark"
PATIENCE_S = 3600.0
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True)
class Bench:
    """An API server, a stub for the nodes, and an operator that speaks to the server with nobody between."""

    server: ApiServer
    background: Background
    upstream: Upstream
    operator: OperatorProcess

    def phases(self) -> Counter[str]:
        """Return how many FineTuneJobs are in each phase; asked as a table, because whole objects would slow down what is measured."""
        path = f"{FINETUNEJOBS.path(NAMESPACE)}?includeObject=None&resourceVersion=0"
        table = self.server.api().request("GET", path, accept=_TABLE)
        column = [each["name"] for each in table["columnDefinitions"]].index("Phase")
        return Counter(row["cells"][column] or "" for row in table["rows"])

    def create_all(self, resource: ApiResource, manifests: Sequence[dict[str, Any]]) -> None:
        """Create objects as fast as the server takes them."""
        self.background.call(self._create_all(resource.path(NAMESPACE), manifests), PATIENCE_S)

    async def _create_all(self, path: str, manifests: Sequence[dict[str, Any]]) -> None:
        gate = asyncio.Semaphore(8)

        async def create(manifest: dict[str, Any]) -> None:
            async with gate:
                code, reply = await self.upstream.json("POST", path, manifest)
            if code >= 300:
                sys.exit(f"{manifest['metadata']['name']} was refused: {reply}")

        await asyncio.gather(*(create(manifest) for manifest in manifests))

    def writes(self) -> int:
        """Return how many mutating requests the operator has sent since it was started."""
        families = text_string_to_metric_families(self.operator.metrics())
        samples = (sample for family in families for sample in family.samples)
        return sum(
            int(sample.value)
            for sample in samples
            if sample.name == "fettle_api_requests_total" and sample.labels["verb"] not in {"get", "list"}
        )

    def await_ready(self) -> None:
        """Wait until the operator has listed everything."""
        wait_until(
            lambda: self.operator.probe("/readyz") == 200,
            timeout_s=120,
            otherwise=lambda: self.operator.log()[-2000:],
        )

    def await_quiet(self, seconds: float) -> None:
        """Wait until the operator has written nothing for so long."""
        seen = -1
        while (now := self.writes()) != seen:
            seen = now
            time.sleep(seconds)


@contextmanager
def set_up(folder: Path, profile: Path | None) -> Iterator[Bench]:
    """Start everything but the operator."""
    with api_server(folder) as server, Background() as background:
        install(server)
        upstream = Upstream(server)
        background.call(upstream.open())
        background.start(NodeStub(upstream, NAMESPACE, lives("good")).run())
        operator = OperatorProcess(folder, server.kubeconfig, configuration(NAMESPACE, resync_s=300.0))
        profiler = ("-m", "cProfile", "-o", str(profile.absolute())) if profile else ()
        operator.interpreter = (sys.executable, *profiler)
        try:
            yield Bench(server, background, upstream, operator)
        finally:
            operator.kill()
            background.call(upstream.close())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=1000, metavar="JOBS")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, set_up(Path(folder), flags.profile) as bench:
        measure(bench, flags.jobs)
    return 0


def measure(bench: Bench, count: int) -> None:
    """Create the jobs at once, wait for their ends, start the operator again."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    bench.create_all(CLAIMS, [{"metadata": {"name": name}, "spec": spec} for name in ("models", "store")])
    operator = bench.operator
    operator.start()
    bench.await_ready()
    began = time.monotonic()
    bench.create_all(FINETUNEJOBS, [job(f"burst-{number:04}") for number in range(count)])
    say(f"{count} jobs created in {time.monotonic() - began:.1f} s")
    await_phases(bench, lambda phases: phases[""] == 0)
    say(f"all have a first status after {time.monotonic() - began:.1f} s{busy(operator.pid)}")
    await_phases(bench, lambda phases: phases["Succeeded"] == count)
    say(f"all have Succeeded after {time.monotonic() - began:.1f} s{busy(operator.pid)}")
    bench.await_quiet(5)
    say(f"mutating requests per job, its Adapter's included: {bench.writes() / count:.1f}")
    say(f"resident memory: {resident_mb(operator.pid):.0f} MB")
    say(f"pass over a FineTuneJob: {quantiles(operator.metrics())}")
    operator.stop()
    again = time.monotonic()
    operator.start()
    bench.await_ready()
    say(f"listed again within {time.monotonic() - again:.1f} s")
    time.sleep(15)
    say(f"writes after a restart: {bench.writes()}")


def await_phases(bench: Bench, wanted: Callable[[Counter[str]], bool]) -> None:
    """Wait until the jobs are in these phases."""
    wait_until(
        lambda: wanted(bench.phases()),
        timeout_s=PATIENCE_S,
        every_s=2,
        otherwise=lambda: bench.operator.log()[-2000:],
    )


def say(sentence: str) -> None:
    """Tell at once: a long run may be watched."""
    print(sentence, flush=True)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def busy(pid: int) -> str:
    """Return what the process has cost so far: unlike the time, that depends little on what else the machine does."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return f", {seconds:.1f} s of the operator's processor time"


def quantiles(text: str) -> str:
    """Return the bounds below which half and 99 of 100 passes lie."""
    buckets: Counter[float] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "fettle_reconcile_seconds_bucket" and sample.labels["kind"] == "FineTuneJob":
                buckets[float(sample.labels["le"])] += int(sample.value)
    total = max(buckets.values(), default=0)
    found = (
        next((bound for bound in sorted(buckets) if buckets[bound] >= share * total), float("inf"))
        for share in (0.5, 0.99)
    )
    return ", ".join(f"{name} <= {bound} s" for name, bound in zip(("p50", "p99"), found, strict=True))


def install(server: ApiServer) -> None:
    """Install Fettle's resources and make the namespace."""
    api = server.api()
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        manifest: dict[str, Any] = yaml.safe_load(path.read_text())
        api.apply(f"{_DEFINITIONS}/{manifest['metadata']['name']}", manifest)
        served = f"/apis/{manifest['spec']['group']}/v1alpha1/{manifest['spec']['names']['plural']}"
        wait_until(lambda served=served: api.answers(served), timeout_s=30, otherwise=lambda: "not served")


@contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """Start etcd and kube-apiserver; they end with this process."""
    build.ensure(binaries.API_SERVER)
    command = [sys.executable, "-m", "devcluster", "apiserver", "--dir", str(folder / "apiserver")]
    log = (folder / "apiserver.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [*command, "--owner", str(os.getpid())], cwd=ROOT, stdout=log, stderr=log
        ) as process,
    ):
        try:
            found = folder / "apiserver"
            wait_until(
                lambda: apiserver.find(found) is not None, timeout_s=90, otherwise=lambda: "no API server"
            )
            server = apiserver.find(found)
            if server is not None:
                yield server
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
