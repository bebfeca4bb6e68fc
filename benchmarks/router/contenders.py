"""Who is compared: each is started in front of the same stand-in, on one port, with what one process needs."""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fettle_router import files
from fettle_router.layout import Layout
from fettle_router.process import MEMORY
from fettle_router.render import render
from fettle_router.slots import Endpoint, assign
from fettle_router.table import parse
from free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY: Final = "sk-benchmark"
LITELLM: Final = "litellm[proxy]==1.83.0"
_LITELLM_HOME: Final = Path(
    os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "fettle/venvs/litellm-1.83.0"
)

PLAIN_HAPROXY: Final = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
"""
_BY_MODEL: Final = """    option http-buffer-request
    http-request set-var(txn.model) req.body,json_query('$.model')
    http-request deny deny_status 404 unless {{ var(txn.model) -m str bot }}
    http-request del-header authorization
    http-request set-header x-fettle-revision %[var(txn.model)]
"""
_FORWARD: Final = "    default_backend out\nbackend out\n    server s 127.0.0.1:{backend}\n"
_NGINX: Final = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_buffer_size 64k;
    client_body_temp_path .;
    proxy_temp_path .;
    fastcgi_temp_path .;
    uwsgi_temp_path .;
    scgi_temp_path .;
    upstream out {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://out;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


class MissingError(Exception):
    """A contender that is not there, with the reason."""


@dataclass(frozen=True)
class Contender:
    """A way to the stand-in."""

    name: str
    command: Callable[[Path, int, int], list[str]]
    """Write what it needs into a folder, for a port of its own and the stand-in's, and return what to start."""
    patience_s: float = 10

    @property
    def folder(self) -> str:
        """The name without what ends a word of a configuration."""
        return re.sub("[^A-Za-z]+", "-", self.name)


def contenders() -> list[Contender]:
    """Return all, in the order in which they are shown."""
    return [
        Contender("HAProxy, without rules", _bare),
        Contender("HAProxy, routing by model", _by_model),
        Contender("this router", _router),
        Contender("nginx, without rules", _nginx),
        Contender("LiteLLM proxy", _litellm, patience_s=180),
    ]


@contextlib.contextmanager
def running(contender: Contender, folder: Path, backend: int) -> Iterator[tuple[int, int]]:
    """Run a contender; gives its port and its process id."""
    port = free_port()
    folder.mkdir(parents=True)
    with started(contender.command(folder, port, backend), port, contender.patience_s, folder) as process:
        yield port, process.pid


@contextlib.contextmanager
def started(
    command: list[str], port: int, patience_s: float, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for as long as it is needed, from the moment on when it listens."""
    environment = os.environ | MEMORY | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            _wait_for(port, process, patience_s, folder / "log")
            yield process
        finally:
            process.terminate()


def _haproxy(folder: Path, text: str) -> list[str]:
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def _bare(folder: Path, port: int, backend: int) -> list[str]:
    return _haproxy(folder, PLAIN_HAPROXY.format(port=port) + _FORWARD.format(backend=backend))


def _by_model(folder: Path, port: int, backend: int) -> list[str]:
    """Do what no router of models can do without: look into the body, and keep the key from the pods."""
    rules = _BY_MODEL.format() + _FORWARD.format(backend=backend)
    return _haproxy(folder, PLAIN_HAPROXY.format(port=port) + rules)


def _router(folder: Path, port: int, backend: int) -> list[str]:
    metrics = free_port()
    layout = Layout(folder, clients=f"127.0.0.1:{port}", metrics=f"127.0.0.1:{metrics}", threads=1)
    slots = {"pool": assign((), [Endpoint("127.0.0.1", backend)])}
    files.write(render(parse(json.dumps(_table())), slots, layout), layout)
    return ["haproxy", "-db", "-f", str(layout.configuration)]


def _nginx(folder: Path, port: int, backend: int) -> list[str]:
    if not shutil.which("nginx"):
        raise MissingError("nginx is not on PATH: apt-get install nginx-light")
    (folder / "nginx.conf").write_text(_NGINX.format(port=port, backend=backend))
    return ["nginx", "-p", str(folder), "-c", "nginx.conf"]


def _litellm(folder: Path, port: int, backend: int) -> list[str]:
    program = _LITELLM_HOME / "bin/litellm"
    if not program.exists():
        _install_litellm()
    target = {"model": "openai/bot", "api_base": f"http://127.0.0.1:{backend}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "bot", "litellm_params": target}],
        "general_settings": {"master_key": KEY},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))
    words = ["--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [str(program), *words]


def _install_litellm() -> None:
    """Make an environment for it alone; it needs other versions than anything here."""
    unfinished = _LITELLM_HOME.with_name(f"{_LITELLM_HOME.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(unfinished)],
        [str(unfinished / "bin/python"), "-m", "pip", "install", "--quiet", LITELLM],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MissingError(f"{LITELLM} could not be installed: {done.stderr.strip()[-300:]}")
    # Scripts name the folder that they were installed into.
    for script in (unfinished / "bin").iterdir():
        if script.is_file() and not script.is_symlink() and script.read_bytes().startswith(b"#!"):
            script.write_bytes(
                script.read_bytes().replace(str(unfinished).encode(), str(_LITELLM_HOME).encode())
            )
    unfinished.rename(_LITELLM_HOME)


def _table() -> dict[str, object]:
    return {
        "version": 1,
        "deployment": "bot",
        "variantSalt": "v",
        "rolloutSalt": "r",
        "models": ["bot"],
        "pools": [{"name": "pool", "service": "pool"}],
        "revisions": [{"name": name, "pool": "pool"} for name in ("stable", "canary")],
        "arms": [
            {
                "name": "main",
                "bounds": {"first": 0, "last": 9999},
                "revision": "stable",
                "candidate": {"revision": "canary", "below": 1000},
            }
        ],
        "access": {"clients": [{"name": "bench", "keyHashes": [hashlib.sha256(KEY.encode()).hexdigest()]}]},
        "limits": {"requestsPerMinute": 1_000_000_000, "concurrency": 1000},
    }


def _wait_for(port: int, process: subprocess.Popen[bytes], patience_s: float, log: Path) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise MissingError(f"it did not start: {log.read_text(errors='replace').strip()[-300:]}")
