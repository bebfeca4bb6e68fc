"""`python -m fettle_server.vllm SETTINGS.json`: becomes `vllm serve` with the layer in it.

The file holds a VllmRuntime in camelCase. Exit code 2 with one sentence where it does not fit; nothing was started then.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from fettle_server.errors import InvalidSettings
from fettle_server.vllm.arguments import VllmRuntime, arguments, environment
from fettle_trainer import strict_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "read_runtime"]

_NAME: Final = "python -m fettle_server.vllm"
_WRONG_SETTINGS: Final = 2


def main(given: Sequence[str] | None = None) -> int:
    """Start vLLM in place of this process, or say what keeps it from starting."""
    parser = argparse.ArgumentParser(prog=_NAME, description="Start vLLM with Fettle's layer in it.")
    parser.add_argument("settings", type=Path, help="a JSON file; docs/guides/vllm.md lists its fields")
    parser.add_argument("--print", action="store_true", help="show the command and its variables only")
    asked = parser.parse_args(given)
    try:
        runtime = read_runtime(asked.settings)
        command, variables = ["vllm", "serve", *arguments(runtime)], environment(runtime)
        if asked.print:
            sys.stdout.write(f"{json.dumps(variables, indent=2)}\n{shlex.join(command)}\n")
            return 0
        _become(command, variables)
    except InvalidSettings as error:
        sys.stderr.write(f"{_NAME}: {error}\n")
    return _WRONG_SETTINGS


def read_runtime(file: Path) -> VllmRuntime:
    """Read the settings, or say which field is wrong."""
    try:
        document = strict_json.loads(file.read_bytes())
        return TypeAdapter(VllmRuntime).validate_python(document)
    except OSError as error:
        raise InvalidSettings(f"{file} cannot be read: {error.strerror or error}.") from error
    except strict_json.StrictJsonError as error:
        raise InvalidSettings(f"{file} is not JSON: {error}.") from error
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        said = "; ".join(f"{'.'.join(map(str, it['loc'])) or 'the file'}: {it['msg']}" for it in problems)
        raise InvalidSettings(f"{file}: {said}.") from error


def _become(command: list[str], variables: dict[str, str]) -> None:
    try:
        os.execvpe(command[0], command, {**os.environ, **variables})  # noqa: S606 - our own words, no shell
    except FileNotFoundError as error:
        raise InvalidSettings("vllm is not installed here; use an image that has it.") from error


if __name__ == "__main__":
    sys.exit(main())
