"""`make env`: a shell that evaluates it speaks to the cluster."""

import subprocess
from pathlib import Path

from clusters.cli import shell_lines


def test_a_shell_takes_the_lines_whatever_the_paths_look_like() -> None:
    lines = shell_lines(Path("/a folder/kubeconfig"), [Path("/x y/kubectl"), Path("/x y/helm")])
    printed = subprocess.run(
        ("bash", "-euc", f'{lines}\nprintf "%s|%s" "$KUBECONFIG" "$PATH"'),
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "/a folder/kubeconfig|/x y:/usr/bin:/bin"
