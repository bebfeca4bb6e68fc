"""What every command that takes a run's file needs first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fettle_trainer import strict_json
from fettle_trainer.config.run import RunConfig
from fettle_trainer.data.http import NETWORKS_VARIABLE, Limits, limits_from
from fettle_trainer.errors import WrongInputError
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from pathlib import Path


def load_run(path: Path) -> RunConfig:
    """Read a run configuration; raise WrongInputError that names every wrong field."""
    try:
        return RunConfig.model_validate(strict_json.loads(path.read_bytes()))
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}.", path) from error
    except StrictJsonError as error:
        raise _wrong(f"{path} is no JSON: {error}.", path) from error
    except ValidationError as error:
        problems = [
            f"{path}: {'.'.join(map(str, problem['loc'])) or 'the document'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise _wrong("\n".join(problems), path) from error


def allowed_networks() -> Limits:
    """Return which networks data may be fetched from, as the administrator has set it in the environment."""
    try:
        return limits_from(os.environ)
    except ValueError as error:
        message = f"The environment variable {NETWORKS_VARIABLE} is no list of networks: {error}."
        raise WrongInputError("ConfigInvalid", message, NETWORKS_VARIABLE) from error


def _wrong(message: str, path: Path) -> WrongInputError:
    return WrongInputError("ConfigInvalid", message, str(path))
