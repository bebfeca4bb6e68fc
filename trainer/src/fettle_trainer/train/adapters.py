"""The adapter on the base: new by the settings, or an earlier one that training goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peft import LoraConfig as PeftLora
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training, set_peft_model_state_dict
from safetensors.torch import load_file

from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from fettle_trainer.config.run import LoraConfig, RunConfig
    from fettle_trainer.config.verification import VerifiedAdapter
    from fettle_trainer.train.settings import Resolved

_PEFT_INIT: Final[dict[str, bool | str]] = {"default": True, "pissa": "pissa", "olora": "olora"}


def adapt(model: Any, config: RunConfig, resolved: Resolved, base_folder: Path) -> Any:
    """Return the model with what is trained trainable, and all else frozen."""
    if config.method == "full":
        model.requires_grad_(requires_grad=True)
        return model
    if config.method == "qlora":
        # Freezes the base, makes its inputs carry gradients, and what is not quantised fp32.
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=resolved.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    if config.model.adapter is not None:
        return PeftModel.from_pretrained(
            model, config.model.adapter, is_trainable=True, local_files_only=True
        )
    return get_peft_model(model, _peft_config(config.lora, resolved, model, base_folder))


def keep_initial_adapter(model: Any, folder: Path) -> None:
    """Save the adapter as it is before the first step, which its conversion for the unchanged base is made from."""
    if (folder / "adapter_model.safetensors").is_file():
        return
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    model.save_pretrained(str(unfinished), save_embedding_layers=False)
    unfinished.rename(folder)


def load_trained_adapter(model: Any, folder: Path) -> None:
    """Give an adapted model the weights of a checkpoint."""
    outcome = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    if outcome.unexpected_keys:
        msg = f"{folder} holds weights that the model has no place for: {outcome.unexpected_keys[:3]}"
        raise ValueError(msg)


def _peft_config(lora: LoraConfig, resolved: Resolved, model: Any, base_folder: Path) -> PeftLora:
    targets = lora.target_modules
    if targets != "all-linear":
        _refuse_unknown_targets(model, targets)
    return PeftLora(
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base_folder),
        r=resolved.rank,
        lora_alpha=resolved.alpha,
        lora_dropout=resolved.dropout,
        target_modules=targets if targets == "all-linear" else list(targets),
        use_rslora=lora.rslora,
        use_dora=resolved.method == "dora",
        init_lora_weights=_PEFT_INIT[resolved.init_weights],
        bias="none",
    )


def _refuse_unknown_targets(model: Any, targets: tuple[str, ...]) -> None:
    head = model.get_output_embeddings()
    names = {name for name, module in model.named_modules() if module is not head and name}
    endings = {name.split(".")[-1] for name in names}
    unknown = [target for target in targets if target not in names | endings]
    if unknown:
        linear = sorted(
            {
                n.split(".")[-1]
                for n, m in model.named_modules()
                if hasattr(m, "in_features") and m is not head
            }
        )
        message = f"lora.targetModules names {', '.join(unknown)}; this model has {', '.join(linear)}, or say all-linear."
        raise WrongInputError("TargetModulesUnknown", message, "lora.targetModules")


def earlier_adapter(config: RunConfig) -> VerifiedAdapter | None:
    """Return what the adapter to continue from is; refuse a damaged one, and one made for other settings."""
    if config.model.adapter is None:
        return None
    try:
        found = verify_adapter(Path(config.model.adapter))
    except AdapterRefusedError as error:
        raise WrongInputError("AdapterRefused", f"model.adapter: {error.message}", "model.adapter") from error
    if found.artefact == "model":
        message = "model.adapter is a whole model. Name it as model.path, or an adapter here."
        raise WrongInputError("AdapterMismatch", message, "model.adapter")
    lora = config.lora
    if lora.rank not in {None, found.rank}:
        message = f"lora.rank is {lora.rank}, the adapter to continue has {found.rank}. Leave lora.rank out."
        raise WrongInputError("AdapterMismatch", message, "lora.rank")
    if (found.method == "dora") != (config.method == "dora"):
        message = f"The adapter to continue was trained with {found.method}, method is {config.method}."
        raise WrongInputError("AdapterMismatch", message, "method")
    return found
