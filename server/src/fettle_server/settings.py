"""What the process is told: flags, and environment variables of the same names, checked before anything is loaded."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, get_args

from fettle_server.api.adapters import WantedAdapters, specs
from fettle_server.api.names import Names
from fettle_server.api.validation import validated
from fettle_server.engine.settings import Device, Dtype, EngineSettings
from fettle_server.errors import InvalidSettings
from fettle_server.layer.asgi import Refused
from fettle_trainer import strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fettle_server.engine.types import AdapterSpec

__all__ = ["ServerSettings", "load_settings"]

ENVIRONMENT: Final = "FETTLE_SERVER_"
"""`--max-running` is also FETTLE_SERVER_MAX_RUNNING; the flag wins."""

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_REVISION: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SHORTEST_TOKEN: Final = 16
_LIMITS: Final = (
    ("max_context", "tokens of a prompt and its answer together"),
    ("max_running", "requests in one batch"),
    ("max_waiting", "requests that may wait; one more is answered with 429"),
    ("max_adapters", "adapters that are loaded at once"),
    ("max_lora_rank", "the highest rank of an adapter"),
    ("threads", "CPU threads of the model"),
    ("cache_tokens", "tokens that the cache holds for all requests"),
    ("prefill_tokens", "tokens of new prompts between two steps of running answers"),
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that the process was told."""

    engine: EngineSettings
    names: Names
    host: str
    port: int
    admin_port: int
    admin_token_file: Path | None
    """Without one there is no admin port."""
    adapters: tuple[AdapterSpec, ...]
    """What is served until the admin port says otherwise."""
    drain_s: float
    pairs_folder: Path | None
    log_level: Literal["debug", "info", "warning", "error"]


def load_settings(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> ServerSettings:
    """Return the settings, or say in one sentence what is wrong with them."""
    flags = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    given = parser.parse_args([*_variables(parser, environment), *flags])
    if given.base is None:
        raise InvalidSettings(f"--base (or {ENVIRONMENT}BASE) is missing: name the folder of the base model.")
    if not given.base.is_dir():
        raise InvalidSettings(f"--base: {given.base} is no folder.")
    names = _names(given)
    return ServerSettings(
        engine=_engine(given),
        names=names,
        host=given.host,
        port=given.port,
        admin_port=given.admin_port,
        admin_token_file=_token_file(given.admin_token_file),
        adapters=_adapters(given.adapters, given.adapters_root, names),
        drain_s=given.drain_seconds,
        pairs_folder=given.pairs_folder,
        log_level=given.log_level,
    )


def _engine(given: argparse.Namespace) -> EngineSettings:
    limits = {name: getattr(given, name) for name, _ in _LIMITS if getattr(given, name) is not None}
    return EngineSettings(
        base=given.base,
        adapters_root=given.adapters_root,
        base_revision=given.base_revision,
        dtype=given.dtype,
        device=given.device,
        **limits,
    )


def _names(given: argparse.Namespace) -> Names:
    alias = given.model_name or given.base.resolve().name
    if not _MODEL_NAME.fullmatch(alias):
        raise InvalidSettings(
            f"--model-name: {alias!r} is no name for a model: letters, digits and . _ / : - only, 128 at most."
        )
    if not _REVISION.fullmatch(given.base_revision):
        raise InvalidSettings(
            f"--base-revision: {given.base_revision!r} is no name for a revision: small letters, digits and - only."
        )
    return Names(alias, given.base_revision)


def _token_file(file: Path | None) -> Path | None:
    if file is None:
        return None
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise InvalidSettings(f"--admin-token-file: {file} cannot be read: {error.strerror}.") from None
    if len(token) < _SHORTEST_TOKEN:
        raise InvalidSettings(
            f"--admin-token-file: the token in {file} is too short: {_SHORTEST_TOKEN} characters at least."
        )
    return file


def _adapters(file: Path | None, root: Path, names: Names) -> tuple[AdapterSpec, ...]:
    if file is None:
        return ()
    try:
        wanted = validated(WantedAdapters, strict_json.loads(file.read_bytes()))
        return tuple(specs(wanted, root, names.reserved))
    except OSError as error:
        raise InvalidSettings(f"--adapters: {file} cannot be read: {error.strerror}.") from None
    except strict_json.StrictJsonError as error:
        raise InvalidSettings(f"--adapters: {file} is not JSON: {error}.") from None
    except Refused as refused:
        raise InvalidSettings(f"--adapters: {file}: {refused.message}") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without repeating how everything is used."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.flags: list[str] = []

    def error(self, message: str) -> NoReturn:
        raise InvalidSettings(f"{message[0].upper()}{message[1:]}. See --help.")


def _variables(parser: _Parser, environment: Mapping[str, str]) -> list[str]:
    """Return what is set in the environment as flags, which later flags override."""
    flags = [flag for flag in parser.flags if _variable(flag) in environment]
    return [f"{flag}={environment[_variable(flag)]}" for flag in flags]


def _variable(flag: str) -> str:
    return ENVIRONMENT + flag.removeprefix("--").upper().replace("-", "_")


def _parser() -> _Parser:
    parser = _Parser(
        prog="fettle-server",
        description="Serve a base model and its adapters behind an OpenAI-compatible API.",
        epilog=f"Every flag can be given as a variable: --max-running as {ENVIRONMENT}MAX_RUNNING.",
    )

    def add(flag: str, help_text: str, default: Any = None, **more: Any) -> None:
        parser.flags.append(f"--{flag}")
        shown = help_text if default is None else f"{help_text} (default {default})"
        parser.add_argument(f"--{flag}", default=default, help=shown, **more)

    add("base", "folder of the base model, or the release folder of a whole model", type=Path, metavar="DIR")
    add(
        "adapters-root",
        "folder that holds the adapters' release folders",
        "/adapters",
        type=Path,
        metavar="DIR",
    )
    add(
        "adapters",
        "JSON document of what to serve at first, as PUT /adapters takes it",
        type=Path,
        metavar="FILE",
    )
    add("model-name", "what clients call the model (default: the base folder's name)", metavar="NAME")
    add("base-revision", "the revision that is the base model", "base", metavar="NAME")
    add("host", "address to listen on; * is every one", "127.0.0.1")
    add("port", "port of the clients", "8000", type=_port)
    add("admin-port", "port of the operator", "8001", type=_port)
    add(
        "admin-token-file",
        "file with the bearer token of the admin port; without it there is none",
        type=Path,
        metavar="FILE",
    )
    add("drain-seconds", "what running answers have when the process is told to stop", "30", type=_seconds)
    add(
        "pairs-folder",
        "folder for pairs of answers and their shadows, if they are asked for",
        type=Path,
        metavar="DIR",
    )
    add("log-level", "what is logged", "info", choices=("debug", "info", "warning", "error"))
    add("dtype", "what the model computes in", "auto", choices=get_args(Dtype))
    add("device", "where the model computes", "auto", choices=get_args(Device))
    defaults = {field.name: field.default for field in fields(EngineSettings)}
    for name, help_text in _LIMITS:
        known = "" if defaults[name] is None else f" (default {defaults[name]})"
        add(name.replace("_", "-"), help_text + known, type=_count, metavar="N")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)
