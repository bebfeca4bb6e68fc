"""`make test`: everything that must hold, cheapest first, with the slow builds beside it.

The Go binaries and the images are built while lint and the fast tests run; a stage starts as soon as what it
needs is there.
"""

from __future__ import annotations

import subprocess
import sys

from stages import Stage, StageFailed, run

PYTEST = (".venv/bin/python", "-m", "pytest", "-q")
FAST = ("-m", "not apiserver and not cluster")
CHART = "tests/chart"
MODEL_STACK = ("tests/training", "tests/serving")


def without(*folders: str) -> tuple[str, ...]:
    """Leave folders out of a pytest call."""
    return tuple(word for folder in folders for word in ("--ignore", folder))


def stages() -> list[Stage]:
    """Name every stage of `make test` and what it waits for."""
    return [
        Stage("venv", ("scripts/venv.sh",)),
        Stage("apiserver-binaries", ("python3", "-m", "devcluster", "build", "etcd", "kube-apiserver")),
        Stage("lint", ("make", "--no-print-directory", "lint"), after=("venv",)),
        Stage("unit", (*PYTEST, "-n", "2", *FAST, *without(CHART, *MODEL_STACK)), after=("venv",), show=True),
        Stage("binaries", ("python3", "-m", "devcluster", "build"), after=("apiserver-binaries",)),
        Stage("images", ("python3", "-m", "images", "build", "--push")),
        # Rendering needs helm, and the linters beside it.
        Stage("chart", (*PYTEST, "-n", "2", *FAST, CHART), after=("unit", "binaries"), show=True),
        Stage(
            "integration",
            (*PYTEST, "-n", "3", "-m", "apiserver", *without(*MODEL_STACK)),
            after=("unit", "apiserver-binaries"),
            show=True,
        ),
        # Models keep both cores busy, and the integration tests have deadlines. The end-to-end tests mostly wait.
        Stage(
            "models",
            ("nice", "-n", "19", "make", "--no-print-directory", "models"),
            after=("integration",),
            show=True,
        ),
        Stage(
            "e2e",
            (*PYTEST, "--durations=12", "-m", "cluster", *without(*MODEL_STACK)),
            after=("lint", "chart", "integration", "images"),
            show=True,
        ),
    ]


def main() -> int:
    """Check first that the tests can run here at all, so that a missing prerequisite is one sentence."""
    if (
        subprocess.run(
            ("python3", "-m", "clusters", "choose"), stdout=subprocess.DEVNULL, check=False
        ).returncode
        != 0
    ):
        return 1
    try:
        run(stages(), at_once=3)
    except StageFailed:
        return 1
    print("All stages passed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
