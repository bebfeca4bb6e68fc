"""What one rank of a test run does; the counterpart of rank_cases, which starts it."""

from __future__ import annotations

import json
import os
import resource
import time
import traceback
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from torch import distributed
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    TrainerCallback,
    TrainingArguments,
)

from fettle_trainer.config.run import RunConfig
from fettle_trainer.data.sources import PUBLIC_ONLY
from fettle_trainer.durable.checkpoints import CheckpointStore
from fettle_trainer.durable.ranks import join_ranks
from fettle_trainer.durable.record import RunShape
from fettle_trainer.durable.resume import choose_checkpoint
from fettle_trainer.durable.started_ranks import as_started
from fettle_trainer.durable.stop import AgreedStop, StopRequest, stopped
from fettle_trainer.durable.trainer import Durability, DurableTrainer
from fettle_trainer.durable.watchdog import LossWatchdog
from fettle_trainer.durable.zero import deepspeed_config
from fettle_trainer.errors import RunError, WrongInputError
from fettle_trainer.train.ending import verdict_of
from fettle_trainer.train.fit import fit
from fettle_trainer.train.job import make_job

if TYPE_CHECKING:
    from pathlib import Path
from rank_cases import GLOBAL_BATCH, LENGTH, ROWS, VOCABULARY, Case, digest_of


def run_rank(case: Case, rank: int, port: int) -> None:
    """Run one rank to its end and exit with the contract's code."""
    _quiet(case.folder / f"output-{rank}.txt")
    _environment(case, rank, port)
    code = 0
    try:
        with StopRequest().listening() as request:
            (_train if case.run_file is None else _train_engine)(case, rank, request)
    except Exception as error:  # noqa: BLE001 - the test that started the rank shows it
        verdict = verdict_of(error)
        said = f"{verdict.code}: {verdict.message}"
        found = "" if isinstance(error, RunError) else f"\n{traceback.format_exc()}"
        (case.folder / f"error-{rank}.txt").write_text(said + found)
        code = verdict.exit_code
    # No clean-up: the other ranks may be gone, and Python's would wait for them.
    os._exit(code)


def _quiet(path: Path) -> None:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _environment(case: Case, rank: int, port: int) -> None:
    torch.set_num_threads(1)
    if case.world_size > 1 or case.zero_stage is not None:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(case.world_size),
            "LOCAL_WORLD_SIZE": str(case.world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }


def _train(case: Case, rank: int, request: StopRequest) -> None:
    store = CheckpointStore(case.folder / "checkpoints")
    join_ranks(with_deepspeed=case.zero_stage is not None)
    arguments = _arguments(case)
    shape = _shape(case)
    checkpoint = choose_checkpoint(store, shape)
    stop = AgreedStop(request)
    trainer = DurableTrainer(
        model=_model(case),
        args=arguments,
        train_dataset=_BrokenRows(_rows(ROWS, 1)) if case.broken_row and rank == 1 else _rows(ROWS, 1),
        eval_dataset=_rows(case.eval_rows, 2) if case.eval_every else None,
        callbacks=[LossWatchdog(), Recorder(case, rank)],
        durability=Durability(store, shape, stop),
    )
    trainer.resume(checkpoint)
    if stop.stopped:
        raise stopped(request.requested)
    _leave(case, trainer, rank, {"resumedFrom": checkpoint.facts.step if checkpoint else None})


def _train_engine(case: Case, rank: int, request: StopRequest) -> None:
    assert case.run_file is not None
    config = RunConfig.model_validate_json(case.run_file.read_bytes())
    if case.world_size > 1:
        config = config.model_copy(update={"distributed": as_started(config.distributed)})
    engine = fit(make_job(config, PUBLIC_ONLY), request, [])
    steps = [entry for entry in engine.state.log_history if "loss" in entry]
    _leave(case, engine, rank, {"steps": [(entry["loss"], entry["grad_norm"]) for entry in steps]})


def _leave(case: Case, trainer: DurableTrainer, rank: int, facts: dict[str, Any]) -> None:
    """Leave what was trained; gathering sharded weights takes every rank."""
    weights = _weights(trainer)
    if rank != 0:
        return
    (case.folder / "result.json").write_text(
        json.dumps(
            {
                "digest": digest_of(weights),
                "empty": [name for name, value in weights.items() if value.numel() == 0],
                "norm": sum(float(value.norm()) for value in weights.values()),
                **facts,
            }
        )
    )
    torch.save(weights, case.folder / "weights.pt")


def _shape(case: Case) -> RunShape:
    return RunShape(
        run_digest="sha256:" + "0" * 64,
        method=case.method,
        world_size=case.world_size,
        global_batch=GLOBAL_BATCH,
        micro_batch=2,
        zero_stage=case.zero_stage,
    )


def _arguments(case: Case) -> TrainingArguments:
    micro = 2
    return TrainingArguments(
        output_dir=str(case.folder / "unused"),
        use_cpu=True,
        max_steps=case.steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=GLOBAL_BATCH // (micro * case.world_size),
        learning_rate=case.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=case.save_every,
        eval_strategy="steps" if case.eval_every else "no",
        eval_steps=case.eval_every,
        metric_for_best_model="loss" if case.eval_every else None,
        greater_is_better=False if case.eval_every else None,
        report_to=[],
        disable_tqdm=True,
        seed=7,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        deepspeed=None
        if case.zero_stage is None
        else deepspeed_config(case.zero_stage, "fp32", case.offload, on_gpu=False),
    )


def _model(case: Case) -> Any:
    base = _base(case)
    if case.method == "full":
        return base
    torch.manual_seed(5)
    return get_peft_model(
        base,
        LoraConfig(
            r=4,
            lora_alpha=8,
            lora_dropout=case.dropout,
            target_modules=["q_proj", "v_proj", "down_proj"],
            use_dora=case.method == "dora",
            task_type="CAUSAL_LM",
        ),
    )


def _base(case: Case) -> Any:
    torch.manual_seed(3)
    folder = case.folder / "base"
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=case.dropout if case.method == "full" else 0.0,
    )
    if case.method != "qlora" and case.zero_stage != 3:
        return LlamaForCausalLM(config)
    first = not distributed.is_initialized() or distributed.get_rank() == 0
    if first and not (folder / "config.json").exists():
        _outside_zero3(lambda: LlamaForCausalLM(config).save_pretrained(folder))
    if distributed.is_initialized():
        distributed.barrier()
    quantisation = (
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
        if case.method == "qlora"
        else None
    )
    return AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=quantisation,
        dtype=torch.float32,
        attention_dropout=config.attention_dropout,
    )


def _outside_zero3(work: Any) -> None:
    """Build the base whole: within ZeRO-3 it would be cut at birth."""
    from transformers.integrations import deepspeed  # noqa: PLC0415

    config = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    work()
    deepspeed._hf_deepspeed_config_weak_ref = config


def _rows(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        ids = torch.randint(1, VOCABULARY, (LENGTH,), generator=generator)
        rows.append({"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)})
    return rows


class _BrokenRows(torch.utils.data.Dataset):
    """Rows of which one cannot be read by this rank, in the fourth step: four rows make a rank's share of a step."""

    def __init__(self, rows: list[dict[str, torch.Tensor]]) -> None:
        self._rows = rows
        self._reads = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self._reads += 1
        if self._reads == 14:
            raise WrongInputError("DataWrong", f"row {index} is broken", "dataset")
        return self._rows[index]


def _weights(trainer: DurableTrainer) -> dict[str, torch.Tensor]:
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if any(hasattr(p, "ds_id") for p in parameters.values()):
        import deepspeed  # noqa: PLC0415

        with deepspeed.zero.GatheredParameters(list(parameters.values())):
            return {name: p.detach().clone() for name, p in parameters.items()}
    return {name: p.detach().clone() for name, p in parameters.items()}


class Recorder(TrainerCallback):
    """Writes down every loss, and holds the run where the test wants it."""

    def __init__(self, case: Case, rank: int) -> None:
        self._case = case
        self._rank = rank

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float], **_kwargs: Any) -> None:
        if self._rank == 0 and "loss" in logs:
            self._append("losses.jsonl", {"step": state.global_step, "loss": logs["loss"]})
        if self._rank == 0 and "eval_loss" in logs:
            self._append("evals.jsonl", {"step": state.global_step, "loss": logs["eval_loss"]})
        if state.global_step == self._case.hold_at and not self._case.hold_in_evaluation:
            self._hold()

    def on_prediction_step(self, _args: Any, state: Any, _control: Any, **_kwargs: Any) -> None:
        if self._case.hold_in_evaluation and state.global_step == self._case.hold_at:
            self._hold()

    def on_save(self, _args: Any, _state: Any, _control: Any, **_kwargs: Any) -> None:
        limit = self._case.file_limit_bytes
        if limit is not None and self._rank == self._case.limited_rank:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    def _hold(self) -> None:
        (self._case.folder / f"holding-{self._rank}").touch()
        deadline = time.monotonic() + 60
        while not (self._case.folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _append(self, name: str, record: dict[str, Any]) -> None:
        with (self._case.folder / name).open("a") as file:
            file.write(json.dumps(record) + "\n")
