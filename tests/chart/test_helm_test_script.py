"""The script that `helm test` runs: what it lets pass and what it complains about."""

from __future__ import annotations

import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from helm_chart import CHART, only, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SPEC = importlib.util.spec_from_file_location("helm_test", CHART / "files" / "helm_test.py")
assert _SPEC is not None
assert _SPEC.loader is not None
script: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(script)

GOOD = "# HELP x y\nfettle_last_resync_timestamp_seconds 1.7e+09\n"


def server(*, allowed: Callable[[str], bool], missing: str = "-") -> Callable[[str], int]:
    """Return an API server that allows some paths and does not know others."""
    return lambda path: 404 if missing in path else 200 if allowed(path) else 403


def complaints(ask: Callable[[str], int], *namespaces: str) -> list[str]:
    return list(script.rights(ask, namespaces, "home"))


def test_the_intended_rights_pass() -> None:
    assert (
        complaints(server(allowed=lambda path: "/namespaces/a/" in path and "secrets" not in path), "a") == []
    )
    assert complaints(server(allowed=lambda path: "secrets" not in path)) == []


def test_a_missing_right_is_named_with_its_namespace() -> None:
    found = complaints(server(allowed=lambda path: "namespaces/a/" in path), "a", "b")

    assert len(found) == 3
    assert all("/namespaces/b/" in each for each in found)


def test_missing_kinds_are_told_from_missing_rights() -> None:
    ask = server(allowed=lambda path: "namespaces" in path and "secrets" not in path, missing="finetunejobs")

    assert all("finetunejobs are not served" in each for each in complaints(ask, "a"))
    assert complaints(ask, "a")


def test_too_many_rights_are_a_failure_too() -> None:
    everything = complaints(server(allowed=lambda _: True), "a")

    assert sum("though clusterWide is false" in each for each in everything) == 3
    assert sum("may list Secrets in home" in each for each in everything) == 1


@pytest.fixture
def metrics() -> Iterator[tuple[dict[str, str], str]]:
    """Return a page to write and the address that serves it."""
    page = {"text": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page["text"].encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield page, f"http://127.0.0.1:{served.server_port}/metrics"
        served.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("text", "good"), [(GOOD, True), (GOOD.replace("1.7e+09", "0.0"), False), ("up 1\n", False)]
)
def test_the_operator_works_once_it_has_listed_its_objects(
    metrics: tuple[dict[str, str], str], text: str, good: bool
) -> None:
    page, address = metrics
    page["text"] = text

    assert (script.trouble_with(address) is None) is good


def test_an_operator_that_gives_no_metrics_is_waited_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(script, "PATIENCE_S", 0.0)

    assert "does not answer" in script.working("http://127.0.0.1:9/metrics")[0]


def test_the_pod_asks_for_what_the_release_is_meant_to_be() -> None:
    def asked(values: dict[str, Any]) -> list[str]:
        words: list[str] = only(render(values), "Pod")["spec"]["containers"][0]["args"]
        return words

    home, metrics_flag = (
        "--own-namespace=fettle-system",
        "--metrics=http://fettle-metrics.fettle-system:9090/metrics",
    )
    assert asked({"watchNamespaces": ["a", "b"]}) == [home, "--namespace=a", "--namespace=b", metrics_flag]
    assert asked({"clusterWide": True}) == [home, metrics_flag]
    assert asked({"metrics": {"service": {"enabled": False}}}) == [home, "--namespace=fettle-system"]
