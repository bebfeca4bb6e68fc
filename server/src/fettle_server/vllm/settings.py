"""What the layer is told when vLLM starts it: by environment variables, because `--middleware` takes no arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fettle_server.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PREFIX", "LayerSettings", "from_environment"]

PREFIX: Final = "FETTLE_"

_MAX_LORA_RANK: Final = 16
_MAX_REQUESTS: Final = 256


@dataclass(frozen=True, slots=True)
class LayerSettings:
    """Names, places and limits."""

    model_name: str
    """What clients call the model; vLLM's `--served-model-name`."""
    base_revision: str
    """The base model as a revision."""
    adapters_root: Path
    admin_token_file: Path
    max_adapters: int = 0
    """How many vLLM holds: `--max-cpu-loras`; 0 where it was started without LoRA."""
    max_lora_rank: int = _MAX_LORA_RANK
    max_running: int = _MAX_REQUESTS
    """`--max-num-seqs`: from here on requests wait inside of vLLM."""
    max_waiting: int = _MAX_REQUESTS
    """Requests beyond that; more are answered 429."""
    base_digest: str = ""
    """Of the base model; an adapter that was trained on another one is refused. Left out: not compared."""
    pairs_folder: Path | None = None
    extra_paths: frozenset[str] = frozenset()
    """Paths of vLLM that are let through besides, such as /v1/embeddings."""

    def environment(self) -> dict[str, str]:
        """Return the variables that say the same."""
        written = {
            "MODEL_NAME": self.model_name,
            "BASE_REVISION": self.base_revision,
            "ADAPTERS_ROOT": str(self.adapters_root),
            "ADMIN_TOKEN_FILE": str(self.admin_token_file),
            "MAX_ADAPTERS": str(self.max_adapters),
            "MAX_LORA_RANK": str(self.max_lora_rank),
            "MAX_RUNNING": str(self.max_running),
            "MAX_WAITING": str(self.max_waiting),
            "BASE_DIGEST": self.base_digest,
            "PAIRS_FOLDER": "" if self.pairs_folder is None else str(self.pairs_folder),
            "EXTRA_PATHS": ",".join(sorted(self.extra_paths)),
        }
        return {f"{PREFIX}{name}": value for name, value in written.items() if value}


def from_environment(environment: Mapping[str, str]) -> LayerSettings:
    """Read the settings, or say which variable is wrong."""
    pairs = environment.get(f"{PREFIX}PAIRS_FOLDER", "")
    return LayerSettings(
        model_name=_word(environment, "MODEL_NAME"),
        base_revision=_word(environment, "BASE_REVISION"),
        adapters_root=Path(_word(environment, "ADAPTERS_ROOT")),
        admin_token_file=Path(_word(environment, "ADMIN_TOKEN_FILE")),
        max_adapters=_number(environment, "MAX_ADAPTERS", 0, least=0),
        max_lora_rank=_number(environment, "MAX_LORA_RANK", _MAX_LORA_RANK, least=1),
        max_running=_number(environment, "MAX_RUNNING", _MAX_REQUESTS, least=1),
        max_waiting=_number(environment, "MAX_WAITING", _MAX_REQUESTS, least=0),
        base_digest=environment.get(f"{PREFIX}BASE_DIGEST", ""),
        pairs_folder=Path(pairs) if pairs else None,
        extra_paths=_paths(environment),
    )


def _word(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(f"{PREFIX}{name}", "")
    if not value:
        raise InvalidSettings(
            f"{PREFIX}{name} is not set; fettle_server.vllm.arguments says what vLLM needs."
        )
    return value


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environment.get(f"{PREFIX}{name}", "")
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise InvalidSettings(f"{PREFIX}{name} is {text!r}; it must be a whole number of {least} or more.")
    return int(text)


def _paths(environment: Mapping[str, str]) -> frozenset[str]:
    paths = frozenset(filter(None, environment.get(f"{PREFIX}EXTRA_PATHS", "").split(",")))
    wrong = sorted(path for path in paths if not path.startswith("/"))
    if wrong:
        raise InvalidSettings(f"{PREFIX}EXTRA_PATHS: {wrong[0]!r} does not begin with a slash.")
    return paths
