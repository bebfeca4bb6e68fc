"""`make demo`: a cluster, Fettle's chart, and an imported adapter that becomes Ready.

Standard library only. Every step can be run again; what is there already is left as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from stages import Stage, StageFailed, run

RELEASE = "fettle"
OPERATOR_NAMESPACE = "fettle-system"
DEMO_NAMESPACE = "fettle-demo"
ADAPTER = "support-tone"


def main() -> int:
    """Bring everything up and say what to do next."""
    started = time.monotonic()
    if subprocess.run(("python3", "-m", "clusters", "choose"), check=False).returncode != 0:
        return 1
    try:
        run(
            [
                Stage("images", ("python3", "-m", "images", "build", "operator", "--push")),
                Stage("cluster", ("python3", "-m", "clusters", "up")),
                Stage("tools", ("python3", "-m", "devcluster", "build", "kubectl", "helm")),
            ],
            at_once=3,
        )
        install()
        import_adapter()
    except StageFailed:
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"demo: `{' '.join(error.cmd)}` failed with {error.returncode}; see its output above.",
            file=sys.stderr,
        )
        return 1
    print(next_steps(time.monotonic() - started))
    return 0


def install() -> None:
    """Install or upgrade the chart, and wait until the operator is ready."""
    # The watched namespace must exist first: the chart puts the operator's Role there.
    call("kubectl", "apply", "-f", "examples/demo-namespace.yaml")
    call(
        "helm", "upgrade", RELEASE, "charts/fettle",
        "--install", "--namespace", OPERATOR_NAMESPACE, "--create-namespace",
        "--values", "build/images.yaml",
        "--set", f"watchNamespaces={{{DEMO_NAMESPACE}}}",
        "--wait", "--timeout", "5m",
    )  # fmt: skip


def import_adapter() -> None:
    """Put an adapter's files on a volume, declare it, and wait until it is verified."""
    call("kubectl", "--namespace", DEMO_NAMESPACE, "apply", "-k", "examples/import-adapter")
    call(
        "kubectl", "--namespace", DEMO_NAMESPACE, "wait",
        "--for=condition=Ready", f"adapter/{ADAPTER}", "--timeout=180s",
    )  # fmt: skip
    call("kubectl", "--namespace", DEMO_NAMESPACE, "get", "adapters", "-o", "wide")


def next_steps(seconds: float) -> str:
    """Return what a new user should try now."""
    return f"""
Fettle is running, and the adapter {ADAPTER!r} is verified and Ready ({seconds:.0f} s).

Next, look at what was found out about it:

    eval "$(make -s env)"
    kubectl -n {DEMO_NAMESPACE} describe adapter {ADAPTER}
    kubectl explain finetunejob.spec

and import one of your own: docs/guides/import-an-adapter.md. `make cluster-down` removes everything."""


def call(tool: str, *arguments: str) -> None:
    """Run one of the cluster's tools against the chosen cluster."""
    environment = os.environ | {"KUBECONFIG": answer("clusters", "kubeconfig")}
    subprocess.run((str(tool_path(tool)), *arguments), check=True, env=environment)


def tool_path(tool: str) -> Path:
    """Return the pinned build of a tool, whatever else is on PATH."""
    return Path(answer("devcluster", "which", tool))


def answer(module: str, *arguments: str) -> str:
    """Ask one of the repository's own command lines."""
    return subprocess.run(
        ("python3", "-m", module, *arguments), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
