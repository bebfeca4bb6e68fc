"""The process itself: what a person reads when it cannot even start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = [str(Path(__file__).parents[2] / part) for part in ("operator/src", "trainer/src")]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("verifier: {image: a, attemps: 3}\n", "verifier.attemps"),
        ("verifier: {image: a}\n", "no way to the API server"),
    ],
)
def test_a_wrong_configuration_ends_with_a_sentence_and_code_2(
    tmp_path: Path, config: str, words: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}

    ended = subprocess.run(
        [sys.executable, "-m", "fettle_operator", "--config", str(path)],
        env={**environment, "PYTHONPATH": os.pathsep.join(SOURCES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
