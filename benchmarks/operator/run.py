"""What many FineTuneJobs cost the operator: a burst of them against a real API server, with a stub for the nodes.

`PYTHONPATH=.:tests/support:operator/src:trainer/src .venv/bin/python benchmarks/operator/run.py [JOBS] [--profile FILE]`. It starts
etcd and kube-apiserver by itself. The request counts are gates of tests/integration/test_finetune_faults.py; times are
printed here. `--profile` measures the burst under cProfile, which slows it down, and keeps what pstats reads.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from devcluster import apiserver, binaries, build
from devcluster.waiting import wait_until
from faults.stage import Stage, staged
from fettle_operator.resources import FINETUNEJOBS
from finetune_stage import job, lives, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.apiserver import ApiServer

ROOT = Path(__file__).parents[2]
NAMESPACE = "benchmark"
PATIENCE_S = 3600.0
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="?", type=int, default=1000, metavar="JOBS")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, api_server(Path(folder)) as server:
        install(server)
        with staged(server, NAMESPACE, Path(folder), lives("good"), resync_s=300.0) as stage:
            profiler = ("-m", "cProfile", "-o", str(flags.profile.absolute())) if flags.profile else ()
            stage.operator.interpreter = (sys.executable, *profiler)
            measure(stage, flags.jobs)
    return 0


def measure(stage: Stage, count: int) -> None:
    """Create the jobs at once, wait for their ends, start the operator again."""
    prepare(stage)
    stage.operator.start()
    stage.await_ready_operator()
    names = [f"burst-{number:04}" for number in range(count)]
    began = time.monotonic()
    for name in names:
        stage.create(FINETUNEJOBS, job(name))
    print(f"{count} jobs created in {time.monotonic() - began:.1f} s")
    wait_until(lambda: phases(stage)[""] == 0, timeout_s=PATIENCE_S, every_s=2, otherwise=lambda: "no status")
    print(f"all have a first status after {time.monotonic() - began:.1f} s{busy(stage.operator.pid)}")
    wait_until(
        lambda: phases(stage)["Succeeded"] == count,
        timeout_s=PATIENCE_S,
        every_s=5,
        otherwise=lambda: "no end",
    )
    print(f"all have Succeeded after {time.monotonic() - began:.1f} s{busy(stage.operator.pid)}")
    stage.await_quiet(5)
    writes = len(stage.proxy.writes())
    print(f"mutating requests per job, its Adapter's included: {writes / count:.1f}")
    print(f"resident memory: {resident_mb(stage.operator.pid):.0f} MB")
    print(f"pass over a FineTuneJob: {quantiles(stage.operator.metrics())}")
    stage.operator.stop()
    again = time.monotonic()
    stage.operator.start()
    stage.await_ready_operator()
    stage.await_quiet(10)
    print(f"writes after a restart: {len(stage.proxy.writes()) - writes}")
    print(f"listed again within {time.monotonic() - again - 10:.1f} s")


def phases(stage: Stage) -> Counter[str]:
    """Return how many jobs are in each phase."""
    return Counter(each.get("status", {}).get("phase", "") for each in stage.items(FINETUNEJOBS))


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
