"""What goes wrong in the middle of a run: the right end, and the last good checkpoint intact."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle_trainer.durable.checkpoints import CheckpointStore, flush
from fettle_trainer.durable.pickles import refuse_unsafe_pickles, restricted_unpickling
from fettle_trainer.durable.record import CheckpointFacts, RunShape
from fettle_trainer.durable.watchdog import LossWatchdog
from fettle_trainer.errors import WrongInputError
from rank_cases import Case, finished, run, with_

SHAPE = RunShape(
    run_digest="sha256:" + "0" * 64,
    method="lora",
    world_size=1,
    global_batch=8,
    micro_batch=2,
    zero_stage=None,
)


def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_the_last_checkpoint_whole(
    tmp_path: Path,
) -> None:
    # Too small for the adapter's optimizer state, large enough for the logs.
    case = Case(folder=tmp_path, file_limit_bytes=8192)
    assert run(case) == [1]
    message = (tmp_path / "error-0.txt").read_text()
    assert message.startswith("StorageFull: The checkpoint of step 4 could not be written")
    assert "checkpoint-2 is untouched" in message
    store = CheckpointStore(tmp_path / "checkpoints")
    assert [entry.name for entry in store.folder.iterdir()] == ["checkpoint-2"], "the staging folder was left"
    assert finished(with_(case, file_limit_bytes=None))["resumedFrom"] == 2


def test_a_full_disk_on_one_rank_ends_all_of_them(tmp_path: Path) -> None:
    codes = run(Case(folder=tmp_path, world_size=2, zero_stage=2, file_limit_bytes=8192, limited_rank=1))
    assert 0 not in codes
    assert None not in codes
    assert "StorageFull" in (tmp_path / "error-1.txt").read_text()
    saved = CheckpointStore(tmp_path / "checkpoints").newest_complete()
    assert saved is not None
    assert saved.facts.step == 2


def test_a_loss_that_is_no_number_is_wrong_input_and_never_saved(tmp_path: Path) -> None:
    assert run(Case(folder=tmp_path, steps=12, learning_rate=3e38, save_every=1)) == [2]
    assert "LossDiverged" in (tmp_path / "error-0.txt").read_text()
    saved = CheckpointStore(tmp_path / "checkpoints").newest_complete()
    assert saved is not None
    assert saved.facts.step <= 2, "weights were saved whose loss is no number"


def test_an_error_in_the_data_on_one_rank_ends_all_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    codes = run(Case(folder=tmp_path, world_size=2, broken_row=True))
    assert codes == [1, 2]
    assert "is broken" in (tmp_path / "error-1.txt").read_text()
    assert (tmp_path / "error-0.txt").read_text().startswith("RankLost: Another rank ended first")
    saved = CheckpointStore(tmp_path / "checkpoints").newest_complete()
    assert saved is not None
    assert saved.facts.step == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_the_watchdog_bites_after_three_bad_losses_in_a_row(bad: float) -> None:
    watchdog = LossWatchdog()
    state: Any = type("State", (), {"global_step": 7})()
    for loss in (2.0, bad, bad, 1.9, bad, bad):
        watchdog.on_log(None, state, None, {"loss": loss})  # type: ignore[arg-type]
    with pytest.raises(WrongInputError, match="step 7"):
        watchdog.on_log(None, state, None, {"loss": bad})  # type: ignore[arg-type]


class _Harmful:
    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._proof),)


def _checkpoint_with(store: CheckpointStore, content: object) -> Path:
    store.begin(4)
    torch.save(content, store.staging(4) / "rng_state.pth")
    flush(store.staging(4))
    return store.commit(4, CheckpointFacts(step=4, shape=SHAPE, save_seconds=0.1))


def test_a_pickle_that_calls_something_is_refused_though_its_record_fits(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    path = _checkpoint_with(store, _Harmful(tmp_path / "proof"))
    assert store.verified(4).path == path
    with pytest.raises(WrongInputError, match=r"rng_state\.pth names posix\.mkdir"):
        refuse_unsafe_pickles(path)
    assert not (tmp_path / "proof").exists()


def test_a_library_that_asks_for_full_unpickling_does_not_get_it(tmp_path: Path) -> None:
    path = _checkpoint_with(CheckpointStore(tmp_path / "checkpoints"), _Harmful(tmp_path / "proof"))
    with restricted_unpickling(), pytest.raises(pickle.UnpicklingError):
        torch.load(path / "rng_state.pth", weights_only=False)  # as DeepSpeed does
    assert not (tmp_path / "proof").exists()


def test_what_is_no_torch_file_at_all_is_refused_with_its_name(tmp_path: Path) -> None:
    path = _checkpoint_with(CheckpointStore(tmp_path / "checkpoints"), {"a": 1})
    (path / "optimizer.pt").write_bytes(pickle.dumps(_Harmful(tmp_path / "proof")))
    with pytest.raises(WrongInputError, match=r"optimizer\.pt cannot be read"):
        refuse_unsafe_pickles(path)
