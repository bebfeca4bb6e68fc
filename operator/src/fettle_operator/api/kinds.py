"""All kinds of the group, for whoever must treat them alike: the generator, the wiring, the tests."""

from fettle_operator.api.adapter import Adapter
from fettle_operator.api.base import Resource
from fettle_operator.api.finetunejob import FineTuneJob
from fettle_operator.api.inferencedeployment import InferenceDeployment

__all__ = ["KINDS"]

KINDS: tuple[type[Resource], ...] = (Adapter, FineTuneJob, InferenceDeployment)
