"""From a FineTuneJob to the trainer's run configuration. Pure."""

import posixpath
from typing import Any

from pydantic import ValidationError

from fettle_operator.api.base import InvalidObjectError
from fettle_operator.api.scalars import quantity_value
from fettle_operator.finetune.children import adapter_name, store_claim
from fettle_operator.finetune.places import claim_folder, config_map_path, secret_file, work_folder
from fettle_operator.finetune.sources import Start
from fettle_operator.resources import Manifest
from fettle_trainer.config.run import RunConfig

__all__ = ["PROGRESS_PORT", "run_config"]

PROGRESS_PORT = 9400


def run_config(live: Manifest, start: Start, micro_batch: int | None, grace_s: int) -> RunConfig:
    """Return the configuration of an attempt; raise InvalidObjectError with what the trainer would refuse.

    `micro_batch` is what an attempt that ran out of memory leaves to the next one; None leaves it to the spec.
    """
    spec = live["spec"]
    training = dict(spec.get("training") or {})
    if micro_batch is not None:
        training["microBatchSize"] = micro_batch
    document = {
        "model": _model(start),
        "dataset": _dataset(spec["dataset"]),
        "method": spec.get("method"),
        "lora": spec.get("lora"),
        "training": training,
        "distributed": {**(spec.get("distributed") or {}), "graceSeconds": grace_s},
        "evaluation": spec.get("evaluation"),
        "output": _present(
            {
                "directory": claim_folder(store_claim(live)),
                "adapterName": adapter_name(live),
                "exports": (spec.get("output") or {}).get("exports"),
                "workDirectory": work_folder(live),
            }
        ),
        "tracking": _tracking(live),
    }
    try:
        return RunConfig.model_validate(_present(document))
    except ValidationError as error:
        raise InvalidObjectError(
            tuple(
                f"spec.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
        ) from error


def _model(start: Start) -> Manifest:
    adapter = start.adapter
    model: dict[str, Any] = {
        "adapter": claim_folder(adapter["claimName"], adapter["path"]) if adapter else None
    }
    if start.hub is not None:
        model["huggingFace"] = _hub(start.hub)
    else:
        volume = start.base["volume"]
        model["path"] = claim_folder(volume["claimName"], volume["path"])
        # Where it lies in the pod is nobody's business; the record of the result says where it came from.
        model["name"] = posixpath.normpath(f"{volume['claimName']}/{volume['path']}")
    return _present(model)


def _dataset(dataset: Manifest) -> Manifest:
    changed = {"train": [_source(source) for source in dataset["train"]]}
    if "validation" in dataset:
        changed["validation"] = [_source(source) for source in dataset["validation"]]
    return {**dataset, **changed}


def _source(source: Manifest) -> Manifest:
    if volume := source.get("volume"):
        # No file of the data may lie outside of its claim, wherever links lead.
        root = claim_folder(volume["claimName"])
        return {"path": f"{root}/{volume['path']}", "root": root}
    if entries := source.get("configMap"):
        root = config_map_path(entries["name"], None)
        return {"path": config_map_path(entries["name"], entries.get("key")), "root": root}
    if file := source.get("http"):
        size = file.get("maxSize")
        limit = {} if size is None else {"maxBytes": int(quantity_value(size))}
        return {"http": {"url": file["url"], "sha256": file["sha256"], **limit}}
    return {"huggingFace": _hub(source["huggingFace"])}


def _hub(source: Manifest) -> Manifest:
    written = {key: value for key, value in source.items() if key != "tokenSecretRef"}
    if reference := source.get("tokenSecretRef"):
        written["tokenFile"] = secret_file(reference)
    return written


def _tracking(live: Manifest) -> Manifest:
    metadata, tracking = live["metadata"], live["spec"].get("tracking") or {}
    written: dict[str, Any] = {
        "tensorboard": tracking.get("tensorboard"),
        "progressHost": "0.0.0.0",  # noqa: S104 - asked by the operator, from another pod
        "progressPort": PROGRESS_PORT,
    }
    if mlflow := tracking.get("mlflow"):
        reference = mlflow.get("tokenSecretRef")
        written["mlflow"] = _present(
            {
                "trackingUri": mlflow["trackingUri"],
                "experiment": mlflow.get("experiment") or f"{metadata['namespace']}/{metadata['name']}",
                "tokenFile": secret_file(reference) if reference else None,
            }
        )
    return _present(written)


def _present(fields: dict[str, Any]) -> Manifest:
    return {key: value for key, value in fields.items() if value is not None}
