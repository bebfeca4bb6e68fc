"""The stage runner behind `make test` and `make demo`."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run_graph(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from stages import Stage, StageFailed, run
def sh(name, line, **more):
    return Stage(name, ("sh", "-c", line), **more)
try:
    run([{source}], at_once=2)
except StageFailed as failed:
    sys.exit(f"failed: {{failed}}")
"""
    return subprocess.run(
        (sys.executable, "-c", program), cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_stage_starts_only_after_those_it_waits_for(tmp_path: Path) -> None:
    done = run_graph(
        "sh('a', 'sleep 0.3; echo a >> order'), sh('b', 'echo b >> order', after=('a',))", tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "order").read_text() == "a\nb\n"


def test_independent_stages_run_side_by_side(tmp_path: Path) -> None:
    # Each waits for the other's file: run one after the other, neither would ever end.
    meet = "touch {me}; for i in $(seq 200); do test -e {other} && exit 0; sleep 0.05; done; exit 1"
    graph = f"sh('a', {meet.format(me='a', other='b')!r}), sh('b', {meet.format(me='b', other='a')!r})"
    assert run_graph(graph, tmp_path).returncode == 0


def test_a_failed_stage_shows_its_log_and_nothing_after_it_starts(tmp_path: Path) -> None:
    done = run_graph("sh('a', 'echo the reason; exit 3'), sh('b', 'touch started', after=('a',))", tmp_path)
    assert done.returncode != 0
    assert "the reason" in done.stdout
    assert "a failed with 3" in done.stdout
    assert not (tmp_path / "started").exists()


def test_when_a_stage_fails_the_running_ones_are_stopped_with_their_children(tmp_path: Path) -> None:
    long = "sh -c 'echo $$ > child; exec sleep 600' & wait"
    done = run_graph(
        f"sh('long', {long!r}), sh('bad', 'while ! test -s child; do sleep 0.05; done; exit 1')", tmp_path
    )
    assert done.returncode != 0
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes()


def test_the_results_of_a_shown_stage_are_printed(tmp_path: Path) -> None:
    assert "2 passed" in run_graph("sh('a', 'echo 2 passed', show=True)", tmp_path).stdout


def test_a_stage_that_waits_for_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert "no earlier stage provides" in run_graph("sh('a', 'true', after=('x',))", tmp_path).stderr
