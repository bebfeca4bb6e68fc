"""The store of checkpoints: whole or not there, and the one before when the newest is damaged."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from fettle_trainer.durable.checkpoints import CheckpointStore, TornCheckpointError
from fettle_trainer.durable.record import RECORD_NAME, CheckpointFacts, RunShape

SHAPE = RunShape(
    run_digest="sha256:" + "a" * 64, method="lora", world_size=2, global_batch=8, micro_batch=2, zero_stage=2
)


def facts(step: int) -> CheckpointFacts:
    return CheckpointFacts(step=step, shape=SHAPE, save_seconds=0.25)


def save(store: CheckpointStore, step: int) -> Path:
    store.begin(step)
    staging = store.staging(step)
    (staging / "global_step").mkdir()
    (staging / "weights.safetensors").write_bytes(bytes(range(256)) * 40)
    (staging / "global_step" / "shard_0.pt").write_bytes(b"shard" * step)
    return store.commit(step, facts(step))


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[5000] ^= 0b100
    (folder / "weights.safetensors").write_bytes(data)


def truncate(folder: Path) -> None:
    os.truncate(folder / "weights.safetensors", 4096)


def lose_a_shard(folder: Path) -> None:
    (folder / "global_step" / "shard_0.pt").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "surprise.pt").write_bytes(b"pickle")


def put_a_link(folder: Path) -> None:
    (folder / "weights.safetensors").rename(folder.parent / "elsewhere")
    (folder / "weights.safetensors").symlink_to(folder.parent / "elsewhere")


def lose_the_record(folder: Path) -> None:
    (folder / RECORD_NAME).unlink()


def change_the_record(folder: Path) -> None:
    text = (folder / RECORD_NAME).read_text()
    (folder / RECORD_NAME).write_text(text.replace('"globalBatch": 8', '"globalBatch": 9'))


def cut_the_record(folder: Path) -> None:
    os.truncate(folder / RECORD_NAME, 100)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "weights.safetensors is damaged"),
        (truncate, "weights.safetensors has 4096 bytes instead of 10240"),
        (lose_a_shard, "global_step/shard_0.pt is missing"),
        (add_a_file, "surprise.pt does not belong to it"),
        (put_a_link, "weights.safetensors is no regular file"),
        (lose_the_record, "never finished"),
        (change_the_record, "seal"),
        (cut_the_record, "no JSON"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture, damage: object, reason: str
) -> None:
    save(store, 4)
    damage(save(store, 8))  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        found = store.newest_complete()
    assert found is not None
    assert found.facts == facts(4)
    assert "checkpoint-8 is passed over" in caplog.text
    assert reason in caplog.text


def test_a_whole_checkpoint_is_found_with_its_facts(store: CheckpointStore) -> None:
    path = save(store, 9)
    save_again = store.newest_complete()
    assert save_again is not None
    assert (save_again.path, save_again.facts) == (path, facts(9))


def test_there_is_none_before_the_first_one_is_committed(store: CheckpointStore) -> None:
    assert store.newest_complete() is None
    store.begin(3)
    (store.staging(3) / "weights.safetensors").write_bytes(b"half")
    assert store.newest_complete() is None


def test_steps_are_compared_as_numbers(store: CheckpointStore) -> None:
    save(store, 9)
    save(store, 10)
    found = store.newest_complete()
    assert found is not None
    assert found.facts.step == 10


def test_the_last_two_and_the_best_are_kept(store: CheckpointStore) -> None:
    for step in (2, 4, 6, 8):
        save(store, step)
        store.prune(step, best=2)
    assert sorted(entry.name for entry in store.folder.iterdir()) == [
        "checkpoint-2",
        "checkpoint-6",
        "checkpoint-8",
    ]


def test_a_checkpoint_that_was_passed_over_does_not_push_out_a_good_one(store: CheckpointStore) -> None:
    save(store, 4)
    flip_a_bit(save(store, 8))
    save(store, 6)
    store.prune(6)
    assert sorted(entry.name for entry in store.folder.iterdir()) == ["checkpoint-4", "checkpoint-6"]


def test_what_a_killed_process_left_is_removed_by_the_next_save(store: CheckpointStore) -> None:
    save(store, 2)
    shutil.copytree(store.path(2), store.staging(3))
    shutil.copytree(store.path(2), store.folder / ".removing-1")
    save(store, 4)
    assert sorted(entry.name for entry in store.folder.iterdir()) == ["checkpoint-2", "checkpoint-4"]


def test_a_step_can_be_saved_again_over_a_damaged_one(store: CheckpointStore) -> None:
    flip_a_bit(save(store, 4))
    save(store, 4)
    assert store.verified(4).facts == facts(4)


def test_the_end_of_training_is_recorded_with_a_checkpoint_that_is_there(store: CheckpointStore) -> None:
    save(store, 4)
    store.mark_complete(4)
    assert store.verified(4).facts.training_complete


def test_a_kill_while_the_record_is_replaced_does_not_cost_the_checkpoint(store: CheckpointStore) -> None:
    path = save(store, 4)
    (path / f".{RECORD_NAME}.tmp").write_bytes(b"{")
    assert store.verified(4).facts == facts(4)


def test_the_record_of_another_step_is_refused(store: CheckpointStore) -> None:
    save(store, 4).rename(store.path(5))
    with pytest.raises(TornCheckpointError, match="step 4"):
        store.verified(5)


def test_the_record_lists_every_file_with_its_digest(store: CheckpointStore) -> None:
    record = json.loads((save(store, 4) / RECORD_NAME).read_bytes())
    assert [file["path"] for file in record["files"]] == ["global_step/shard_0.pt", "weights.safetensors"]
    assert {file["sizeBytes"] for file in record["files"]} == {20, 10240}
