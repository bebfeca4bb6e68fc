"""What the parts agree on: the trainer's files and messages as pydantic models, and nothing else.

The operator imports this package and no other part of the trainer, so nothing here may need more than pydantic.
"""

from fettle_trainer.config.dataset_report import DatasetReport
from fettle_trainer.config.evaluation_report import EvaluationReport
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.manifest import Manifest
from fettle_trainer.config.outcome import Outcome
from fettle_trainer.config.progress import ProgressReport
from fettle_trainer.config.run import RunConfig
from fettle_trainer.config.verification import RefusalCode, VerificationReport

__all__ = [
    "DatasetReport",
    "EvaluationReport",
    "ExitCode",
    "Manifest",
    "Outcome",
    "ProgressReport",
    "RefusalCode",
    "RunConfig",
    "VerificationReport",
]
