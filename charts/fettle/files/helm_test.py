# noqa: INP001 -- a single file, mounted into the test pod
"""Check an installed release for `helm test`.

Are the kinds served, are the rights as intended, does the operator work? Runs in the operator's image with the operator's own credentials; the standard library is enough.
"""

import argparse
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")
KINDS = ("adapters", "finetunejobs", "inferencedeployments")
PATIENCE_S = 60.0
PAUSE_S = 1.0
TIMEOUT_S = 10.0

Ask = Callable[[str], int]
"""Sends a GET to a path of the API server and returns the status code."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check, print a line for each, and fail when one did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", action="append", default=[], help="a watched namespace; none: all")
    parser.add_argument("--own-namespace", required=True, help="where the release lies")
    parser.add_argument(
        "--metrics", default="", help="address of the operator's metrics, if they have a Service"
    )
    chosen = parser.parse_args(arguments)
    problems = list(rights(api_server(), chosen.namespace, chosen.own_namespace))
    if chosen.metrics:
        problems += working(chosen.metrics)
    for problem in problems:
        sys.stdout.write(f"FAILED: {problem}\n")
    if not problems:
        sys.stdout.write("passed: the kinds are served, the rights are as intended, the operator works\n")
    return 1 if problems else 0


def rights(ask: Ask, namespaces: Sequence[str], own_namespace: str) -> Iterator[str]:
    """Yield what the operator may not do but has to, or may do but must not."""
    everywhere = not namespaces
    scopes = [""] if everywhere else [f"namespaces/{name}/" for name in namespaces]
    for kind in KINDS:
        for scope in scopes:
            path = f"/apis/fettle.dev/v1alpha1/{scope}{kind}?limit=1"
            code = ask(path)
            if code == 404:
                yield f"{kind} are not served: install with crds.enabled=true (GET {path} gave 404)"
            elif code != 200:
                yield f"the operator may not list {kind} (GET {path} gave {code})"
        if not everywhere and (code := ask(f"/apis/fettle.dev/v1alpha1/{kind}?limit=1")) == 200:
            yield f"the operator may list {kind} of the whole cluster, though clusterWide is false"
    if ask(f"/api/v1/namespaces/{own_namespace}/secrets?limit=1") == 200:
        yield f"the operator may list Secrets in {own_namespace}; something grants it more than the chart does"


def working(address: str) -> list[str]:
    """Wait until the metrics tell that all objects were listed once."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        problem = trouble_with(address)
        if problem is None:
            return []
        if time.monotonic() > deadline:
            return [problem]
        time.sleep(PAUSE_S)


def trouble_with(address: str) -> str | None:
    """Return what the metrics say is wrong, if anything."""
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- the chart's own Service
            text = answer.read().decode()
    except OSError as error:
        return f"{address} does not answer: {error}"
    listed = re.search(r"^fettle_last_resync_timestamp_seconds (\S+)$", text, re.MULTILINE)
    if listed is None or float(listed.group(1)) == 0:
        return (
            f"the operator has not listed its objects yet (fettle_last_resync_timestamp_seconds of {address})"
        )
    return None


def api_server() -> Ask:
    """Return a way to ask the API server with the credentials of this pod."""
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    bracketed = f"[{host}]" if ":" in host else host
    base = f"https://{bracketed}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    token = (CREDENTIALS / "token").read_text().strip()
    trust = ssl.create_default_context(cafile=str(CREDENTIALS / "ca.crt"))

    def ask(path: str) -> int:
        request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 -- https only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trust) as answer:  # noqa: S310 -- https only
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            return refusal.code

    return ask


if __name__ == "__main__":
    sys.exit(main())
