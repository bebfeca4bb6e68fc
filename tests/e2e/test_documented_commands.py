"""Every command of the README and the guides works as it is written, on the cluster that `make demo` makes.

The pages are run as a reader would: each page's blocks one after the other in one shell. The README comes last,
because its last command removes the cluster.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
RUN_BY_MAKE_TEST_ITSELF = {"make venv", "make unit", "make models", "make lint", "make test"}
README = ROOT / "README.md"
GUIDES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
AFTER_THE_OTHERS, AT_THE_VERY_END = pytest.mark.late(1), pytest.mark.late(3)
TIMEOUT_S = 1800


def commands(page: Path) -> list[str]:
    """Return the lines of the page's bash blocks, without those that the test run consists of."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.split("#")[0].strip() not in RUN_BY_MAKE_TEST_ITSELF]


def pages_with_commands() -> list[object]:
    guides = [page for page in GUIDES if commands(page)]
    return [
        *(pytest.param(page, marks=AFTER_THE_OTHERS, id=str(page.relative_to(ROOT))) for page in guides),
        pytest.param(README, marks=AT_THE_VERY_END, id=README.name),
    ]


@pytest.fixture(scope="module")
def demo() -> None:
    """Bring up what the guides build upon."""
    shell("make demo")


@pytest.mark.parametrize("page", pages_with_commands())
@pytest.mark.usefixtures("demo")
def test_the_commands_of_a_page_work_as_written(page: Path) -> None:
    shell("\n".join(commands(page)))


@AT_THE_VERY_END
def test_the_last_command_of_the_readme_leaves_no_cluster() -> None:
    status = subprocess.run(("make", "cluster-status"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert status.returncode != 0


def shell(script: str) -> None:
    """Run a script the way a reader's terminal would, and stop at the first command that fails."""
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", f'eval "$(make -s env 2>/dev/null || true)"\n{script}'),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-8000:]}"
