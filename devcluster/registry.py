"""The local image registry; what is pushed to it lies in the cache and outlives the cluster."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from devcluster import files, forgetting, processes, state
from devcluster.processes import Program
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.plan import Plan

NAME = "registry"
_START_TIMEOUT_S = 30


def storage(plan: Plan) -> Path:
    """Return the folder with everything that was pushed."""
    return plan.cache / "registry"


def config(plan: Plan) -> dict[str, Any]:
    """Return the registry's configuration file."""
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        # Shared by all clusters of the machine, so that an image is stored once.
        "storage": {
            "filesystem": {"rootdirectory": str(storage(plan))},
            "delete": {"enabled": True},
            "maintenance": {
                "uploadpurging": {"enabled": True, "age": "24h", "interval": "24h", "dryrun": False}
            },
        },
        "http": {"addr": plan.registry},
    }


def start(plan: Plan, programs: Mapping[str, Path]) -> None:
    """Start the registry, without waiting for it."""
    text = json.dumps(config(plan), indent=2)
    file = plan.state / "registry.yaml"
    files.write(file, text)
    # Pushing and forgetting exclude each other, so old images go before the first registry of the machine starts.
    if NAME not in processes.running(plan.state) and not state.others(plan.instance):
        forgetting.forget_old_tags(storage(plan), programs["registry"], file)
    program = Program(
        NAME,
        (str(programs["registry"]), "serve", str(file)),
        plan.first.namespace,
        configuration=text,
        # Otherwise it looks for a trace collector on this machine, and complains for ever.
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )
    processes.ensure(plan.state, program, plan.logs)


def wait(plan: Plan) -> None:
    """Wait until the registry answers the host."""
    wait_until(
        lambda: answers(plan.registry),
        timeout_s=_START_TIMEOUT_S,
        otherwise=lambda: (
            f"the registry at {plan.registry} does not answer; see {plan.logs / (NAME + '.log')}"
        ),
    )


def answers(address: str) -> bool:
    """Tell whether a registry serves at an address."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/v2/", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
