"""What the process is told, and how it says that something is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fettle_server.api.names import Names
from fettle_server.engine.types import AdapterSpec
from fettle_server.errors import InvalidSettings
from fettle_server.settings import _parser, load_settings

GUIDE = Path(__file__).parents[3] / "docs/guides/serving.md"
DIGEST = f"sha256:{'a' * 64}"


def test_flags_win_over_variables_and_variables_over_defaults(tmp_path: Path) -> None:
    environment = {
        "FETTLE_SERVER_PORT": "9000",
        "FETTLE_SERVER_MAX_RUNNING": "4",
        "FETTLE_SERVER_BASE": "/nowhere",
    }
    settings = load_settings([f"--base={tmp_path}", "--port", "9001"], environment)
    assert (settings.port, settings.engine.max_running) == (9001, 4)
    assert (settings.admin_port, settings.engine.max_waiting, settings.drain_s) == (8001, 128, 30.0)
    assert (settings.names, settings.admin_token_file) == (Names(tmp_path.name, "base"), None)


def test_the_first_adapters_come_from_the_operators_own_document(tmp_path: Path) -> None:
    file = tmp_path / "adapters.json"
    entry = {"revision": "rev-a", "digest": DIGEST, "path": "tone"}
    file.write_text(json.dumps({"adapters": [entry]}))
    settings = load_settings([f"--base={tmp_path}", f"--adapters={file}"], {})
    assert settings.adapters == (AdapterSpec("rev-a", DIGEST, "tone"),)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--base (or FETTLE_SERVER_BASE) is missing"),
        (["--base=/nowhere"], "--base: /nowhere is no folder."),
        (["--base={here}", "--port=99999"], "--port: '99999' is no port"),
        (["--base={here}", "--max-running=0"], "--max-running: '0' is no whole number above 0"),
        (["--base={here}", "--drain-seconds=soon"], "--drain-seconds: 'soon' is no number of seconds"),
        (["--base={here}", "--dtype=int4"], "--dtype: invalid choice"),
        (["--base={here}", "--colour=red"], "--colour=red"),
        (["--base={here}", "--model-name=a@b"], "--model-name: 'a@b' is no name for a model"),
        (["--base={here}", "--base-revision=Base"], "--base-revision: 'Base' is no name for a revision"),
        (["--base={here}", "--admin-token-file=/nowhere"], "--admin-token-file: /nowhere cannot be read"),
        (["--base={here}", "--admin-token-file={here}/short"], "is too short"),
        (["--base={here}", "--adapters={here}/short"], "is not JSON"),
        (["--base={here}", "--adapters={here}/list"], "Invalid 'adapters'"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "short").write_text("abc\n")
    (tmp_path / "list").write_text('{"adapters": 5}')
    with pytest.raises(InvalidSettings) as wrong:
        load_settings([argument.format(here=tmp_path) for argument in arguments], {})
    assert sentence in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_variable_is_held_to_the_same_choices(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="--log-level"):
        load_settings([f"--base={tmp_path}"], {"FETTLE_SERVER_LOG_LEVEL": "loud"})


def test_the_guide_lists_every_flag_and_its_default() -> None:
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `--")]
    parser = _parser()
    for flag in parser.flags:
        (row,) = [row for row in rows if re.search(rf"`{flag}[ `]", row.split("|")[1])]
        default = parser.get_default(flag[2:].replace("-", "_"))
        assert default is None or str(default) in row
