"""A real operator process."""

import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from faults.warm import WarmProcess
from free_ports import free_ports

__all__ = ["OperatorProcess", "configuration"]

_REPOSITORY = Path(__file__).parents[3]
_PYTHON_PATH = os.pathsep.join(str(_REPOSITORY / each) for each in ("operator/src", "trainer/src"))


_PROFILE = {
    "images": {"trainer": "registry.fettle.dev/trainer:test", "server": "registry.fettle.dev/server:test"},
    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
}


def configuration(namespace: str, resync_s: float = 1.0, **more: Any) -> dict[str, Any]:
    """Return a configuration file for one namespace with short timers."""
    return {
        "watchNamespaces": [namespace],
        "resyncSeconds": resync_s,
        "backoff": {"initialSeconds": 0.3, "maxSeconds": 1.0},
        "log": {"level": "info", "format": "text"},
        "verifier": {"image": "registry.fettle.dev/operator:test"},
        "profiles": {"cpu": _PROFILE},
        **more,
    }


class OperatorProcess:
    """Starts, ends and asks one operator."""

    def __init__(self, folder: Path, kubeconfig: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(config))
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None
        self.interpreter: tuple[str, ...] = ()
        """What runs the operator where it is not forked off a warm process: to measure it, for example."""
        self.log_path = folder / "operator.log"
        self.probes_port = 0
        self.metrics_port = 0

    def start(self) -> None:
        """Start a process."""
        self.probes_port, self.metrics_port = free_ports(2)
        self.log_path.touch()
        arguments = [
            *("--config", str(self._config), "--kubeconfig", str(self._kubeconfig)),
            *("--probes-port", str(self.probes_port), "--metrics-port", str(self.metrics_port)),
        ]
        if not self.interpreter:
            self._process = WarmProcess(arguments, self.log_path, _PYTHON_PATH)
            return
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.interpreter, "-m", "fettle_operator", *arguments],
                env={**os.environ, "PYTHONPATH": _PYTHON_PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it at once, as a node failure would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)

    def stop(self, timeout_s: float = 15) -> int:
        """Ask it to stop; return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(5)

    def reap(self, timeout_s: float = 5) -> int:
        """Wait until it has ended; return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def probe(self, path: str) -> int:
        """Return the status code of a probe; 0 when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.probes_port}{path}", timeout=2) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metrics(self) -> str:
        """Return what Prometheus would read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as reply:
            return str(reply.read().decode())

    def log(self) -> str:
        """Return everything that it and its predecessors wrote."""
        return self.log_path.read_text()
