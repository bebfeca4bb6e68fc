"""An Adapter's life on a real API server, with a real operator process and a stub for the nodes."""

import pytest

from faults.stage import DIGEST, Stage, adapter
from fettle_operator.resources import ADAPTERS

pytestmark = pytest.mark.apiserver


def test_an_imported_adapter_is_verified_and_becomes_ready(stage: Stage) -> None:
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.operator.start()

    stage.await_condition("tuned", "Ready", "Verified")

    status = stage.get(ADAPTERS, "tuned")["status"]
    assert status["phase"] == "Ready"
    assert status["digest"] == DIGEST
    assert status["location"] == {"claimName": "store", "path": "adapters/tuned"}
    assert status["observedGeneration"] == 1
    assert len(stage.jobs()) == 1
