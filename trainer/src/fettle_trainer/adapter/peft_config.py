"""`adapter_config.json` as PEFT writes it, as far as Fettle has to understand it."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fettle_trainer import strict_json
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.config.adapter import Alpha, Method
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import StrictJsonError, shown

CONFIG_NAME: Final = "adapter_config.json"
MAX_CONFIG_BYTES: Final = 2**20

_BASE_CHANGING_INITS: Final = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initialisations that move part of the base model's weights into the adapter (peft LoraConfig)."""
_TRUSTED_LIBRARIES: Final = ("transformers", "peft")

_Rank = Annotated[int, Field(ge=1, le=4096)]
_Name = Annotated[str, Field(min_length=1, max_length=512)]


class PeftConfig(BaseModel):
    """The fields that decide whether and how the weights can be loaded; PEFT knows many more."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    peft_type: str
    r: _Rank
    lora_alpha: Alpha
    target_modules: list[_Name] | _Name | None = None
    target_parameters: list[_Name] | None = None
    modules_to_save: list[_Name] | None = None
    base_model_name_or_path: Annotated[str, Field(max_length=512)] | None = None
    use_dora: bool = False
    use_rslora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    rank_pattern: dict[str, _Rank] | None = None
    init_lora_weights: bool | str | None = True
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    auto_mapping: dict[str, Any] | None = None

    @property
    def method(self) -> Method:
        """What the adapter is to whoever loads it."""
        return "dora" if self.use_dora else "lora"

    def rank_of(self, module: str) -> int:
        """Return the rank of one module; a name in rank_pattern counts as in PEFT, at the end of the module's path."""
        for name, rank in (self.rank_pattern or {}).items():
            if module == name or module.endswith(f".{name}"):
                return rank
        return self.r


def parse_peft_config(data: bytes) -> PeftConfig:
    """Return the validated configuration; refuse it when Fettle could not serve what it describes."""
    document = _document(data)
    _check_method(document)
    try:
        config = PeftConfig.model_validate(document)
    except ValidationError as error:
        raise _invalid("; ".join(_sentences(error))) from error
    _check_loadable(config)
    return config


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = strict_json.loads(data)
    except StrictJsonError as error:
        raise _invalid(f"it is no JSON ({error})") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object")
    return document


def _check_method(document: dict[str, Any]) -> None:
    """First of all, because another method has other fields, which would only confuse in the message."""
    kind = document.get("peft_type")
    if isinstance(kind, str) and kind != "LORA":
        raise _unsupported(f"peft_type is {shown(kind)}; LORA adapters can be served, others cannot.")


def _check_loadable(config: PeftConfig) -> None:
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        raise _unsupported(
            f"init_lora_weights is {shown(init)}, which changes the base model too, so the adapter alone is wrong on it."
            " Save it with peft's path_initial_model_for_weight_conversion, which makes a plain LoRA adapter."
        )
    if not config.target_modules and not config.target_parameters:
        raise _invalid("target_modules is empty")
    library = str((config.auto_mapping or {}).get("parent_library") or "transformers")
    if library.split(".", maxsplit=1)[0] not in _TRUSTED_LIBRARIES:
        raise AdapterRefusedError(
            RefusalCode.CODE_FILE,
            f"{CONFIG_NAME}: auto_mapping names the library {shown(library)}; Fettle loads no foreign code. "
            "Remove auto_mapping.",
            CONFIG_NAME,
        )


def _sentences(error: ValidationError) -> list[str]:
    problems = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(map(str, problem['loc'][:2]))}: {problem['msg']}" for problem in problems[:4]]


def _invalid(problem: str) -> AdapterRefusedError:
    message = f"{CONFIG_NAME} is not a valid LoRA configuration: {problem}."
    return AdapterRefusedError(RefusalCode.CONFIG_INVALID, message, CONFIG_NAME)


def _unsupported(message: str) -> AdapterRefusedError:
    return AdapterRefusedError(RefusalCode.METHOD_UNSUPPORTED, f"{CONFIG_NAME}: {message}", CONFIG_NAME)
