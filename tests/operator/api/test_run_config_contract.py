"""A FineTuneJob and the trainer's run configuration speak of training in the same words and bounds."""

import pytest
from pydantic import BaseModel, ValidationError

from fettle_operator.api.base import InvalidObjectError, KubeModel
from fettle_operator.api.evaluation import Evaluation, Gate
from fettle_operator.api.finetunejob import FineTuneJob
from fettle_operator.api.training import Distributed, EarlyStopping, Lora, Loss, Training, Zero
from fettle_trainer.config import run
from spec_table import HANDWRITTEN, generated_rows

TWINS: list[tuple[type[KubeModel], type[BaseModel]]] = [
    (Lora, run.LoraConfig),
    (Training, run.TrainingConfig),
    (Loss, run.LossConfig),
    (EarlyStopping, run.EarlyStopping),
    (Distributed, run.DistributedConfig),
    (Zero, run.ZeroConfig),
    (Evaluation, run.EvaluationConfig),
    (Gate, run.Gate),
]
OPERATORS_OWN: dict[type[BaseModel], set[str]] = {run.DistributedConfig: {"grace_seconds"}}
"""What the operator decides, and no user."""
SECTIONS: dict[str, type[BaseModel]] = {
    "lora": run.LoraConfig,
    "training": run.TrainingConfig,
    "distributed": run.DistributedConfig,
    "evaluation": run.EvaluationConfig,
}


@pytest.mark.parametrize(("resource", "config"), TWINS)
def test_both_sides_have_the_same_settings(resource: type[KubeModel], config: type[BaseModel]) -> None:
    assert set(resource.model_fields) == set(config.model_fields) - OPERATORS_OWN.get(config, set())


def test_the_trainer_takes_every_setting_that_the_api_takes() -> None:
    refused, taken = [], 0
    for row in (*HANDWRITTEN, *generated_rows()):
        if row.kind != "FineTuneJob" or row.accepted is False:
            continue
        try:
            spec = FineTuneJob.read(row.manifest).spec.manifest()
        except InvalidObjectError:
            continue
        for name in spec.keys() & SECTIONS.keys():
            try:
                SECTIONS[name].model_validate(spec[name])
                taken += 1
            except ValidationError as error:
                refused.append(f"{row.title}: {error}")
    assert refused == []
    assert taken > 1000
