"""What an Adapter's status says: a pure function of what was found.

The condition `Verified` is the durable verdict. Once it is True or False it stays, because the spec cannot
change and files that were verified are named by digest; while it is Unknown, a pass looks for one.
"""

from collections.abc import Sequence

from fettle_operator.adapters.attempts import Broken, Refused, Verified
from fettle_operator.adapters.usage import User
from fettle_operator.api.adapter import AdapterSpec
from fettle_operator.conditions import READY, RECONCILING, STALLED, Condition, find
from fettle_operator.engine.report import Report
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import FINETUNEJOBS, Manifest
from fettle_trainer.config.verification import VerifiedAdapter

__all__ = [
    "VERIFIED",
    "deleting",
    "invalid",
    "judged",
    "settled",
    "unsupported",
    "verdict_in",
    "verifying",
    "waiting",
]

VERIFIED = "Verified"
IN_USE = "InUse"
_LISTED_MAX = 64
"""Bound of the lists in status."""
_NAMED_MAX = 5
"""So many users are named in a sentence; all of them are in `usedBy`."""
_START_AGAIN = "Correct it and create the Adapter again."
_FRAME_FIELDS = frozenset({"conditions", "observedGeneration"})

Verdict = Condition


def verdict_in(status: Manifest) -> Verdict | None:
    """Return the verdict that an earlier pass recorded."""
    verdict = find(status.get("conditions", []), VERIFIED)
    return verdict if verdict is not None and verdict.status != "Unknown" else None


def settled(status: Manifest, verdict: Verdict, users: Sequence[User]) -> Report:
    """Report on an adapter whose verdict is known: only its users may have changed."""
    return _report(_own_fields(status), _of_verdict(verdict), users)


def judged(
    finding: Verified | Refused, spec: AdapterSpec, users: Sequence[User], maker: Manifest | None = None
) -> Report:
    """Report what an attempt has found out for good; `maker` is the object that owns the Adapter."""
    if isinstance(finding, Refused):
        return _refused(finding.message, {}, users)
    facts = _facts(finding.adapter, spec) | _produced_by(maker)
    if complaint := _unexpected(finding.adapter, spec):
        return _refused(complaint, facts, users)
    sentence = f"{finding.adapter.file_count} files, {finding.adapter.size_bytes} bytes, verified"
    if finding.adapter.untrained:
        sentence += "; every lora_B tensor is zero, so this adapter changes nothing"
    return _report(facts, _of_verdict(Condition(VERIFIED, "True", Reason.VERIFIED, sentence)), users)


def exhausted(broken: Broken, attempts: int, users: Sequence[User]) -> Report:
    """Report that there will be no further attempt."""
    sentence = f"{attempts} attempts broke; the last one: {broken.message}. {_START_AGAIN}"
    verdict = Condition(VERIFIED, "False", Reason.VERIFICATION_EXHAUSTED, sentence)
    return _report({}, _of_verdict(verdict), users)


def verifying(users: Sequence[User], again_in_s: float | None = None) -> Report:
    """Report that a Job is at work."""
    ready = Condition(READY, "False", Reason.VERIFYING, "the adapter's files are being read and checked")
    return _report({"phase": "Verifying"}, (ready, _unknown(ready)), users, again_in_s)


def waiting(obstacle: Obstacle, users: Sequence[User], again_in_s: float | None = None) -> Report:
    """Report what verification waits for; it goes on by itself when that is there."""
    ready = Condition(READY, "False", obstacle.reason, obstacle.message)
    abnormal = Condition(RECONCILING, "True", obstacle.reason, obstacle.message)
    return _report({"phase": "Pending"}, (ready, _unknown(ready), abnormal), users, again_in_s)


def unsupported(spec: AdapterSpec, users: Sequence[User]) -> Report | None:
    """Report on a source that cannot be verified by this version; None if it can."""
    source = spec.source
    if source.hugging_face is not None:
        sentence = (
            f"spec.source.huggingFace is not supported by this version: copy {source.hugging_face.repo} "
            "into a volume and name that as spec.source.volume of another Adapter"
        )
        ready = Condition(READY, "False", Reason.SOURCE_NOT_SUPPORTED, sentence)
        return _report({"phase": "Failed"}, (ready, _unknown(ready), _stalled(ready)), users)
    if source.fine_tune_job is not None:
        sentence = (
            f"spec.source.fineTuneJob is not supported: FineTuneJob {source.fine_tune_job.name} makes its Adapter "
            "itself, under the name in its spec.output.adapterName"
        )
        ready = Condition(READY, "False", Reason.SOURCE_NOT_SUPPORTED, sentence)
        return _report({"phase": "Failed"}, (ready, _unknown(ready), _stalled(ready)), users)
    return None


def invalid(status: Manifest, problems: Sequence[str], users: Sequence[User]) -> Report:
    """Report a spec that this version refuses; what is known of the adapter stays."""
    ready = Condition(READY, "False", Reason.INVALID_SPEC, "; ".join(problems))
    verdict = verdict_in(status) or _unknown(ready)
    return _report({**_own_fields(status), "phase": "Failed"}, (ready, verdict, _stalled(ready)), users)


def deleting(status: Manifest, users: Sequence[User]) -> Report:
    """Report that a deletion waits for the adapter's users."""
    kept = [
        known
        for each in status.get("conditions", [])
        if (known := find([each], each["type"])) is not None and known.type != IN_USE
    ]
    return _report(
        {**_own_fields(status), "phase": "Deleting"}, tuple(kept), users, prefix="deletion waits: "
    )


def _report(
    fields: Manifest,
    conditions: tuple[Condition, ...],
    users: Sequence[User],
    again_in_s: float | None = None,
    prefix: str = "",
) -> Report:
    used_by = [{"kind": user.kind, "name": user.name} for user in users[:_LISTED_MAX]]
    status = {key: value for key, value in fields.items() if key != "usedBy"} | (
        {"usedBy": used_by} if users else {}
    )
    return Report((*conditions, _in_use(users, prefix)), status, again_in_s)


def _in_use(users: Sequence[User], prefix: str) -> Condition:
    if not users:
        return Condition(IN_USE, "False", Reason.NOT_IN_USE, "nothing refers to the adapter")
    more = f" and {len(users) - _NAMED_MAX} more" if len(users) > _NAMED_MAX else ""
    named = ", ".join(str(user) for user in users[:_NAMED_MAX])
    return Condition(IN_USE, "True", Reason.IN_USE, f"{prefix}used by {named}{more}")


def _of_verdict(verdict: Verdict) -> tuple[Condition, ...]:
    ready = Condition(READY, verdict.status, verdict.reason, verdict.message)
    return (ready, verdict) if verdict.status == "True" else (ready, verdict, _stalled(ready))


def _refused(complaint: str, facts: Manifest, users: Sequence[User]) -> Report:
    verdict = Condition(VERIFIED, "False", Reason.ADAPTER_REFUSED, f"{complaint.rstrip('.')}. {_START_AGAIN}")
    return _report({**facts, "phase": "Failed"}, _of_verdict(verdict), users)


def _unknown(ready: Condition) -> Condition:
    return Condition(VERIFIED, "Unknown", ready.reason, ready.message)


def _stalled(ready: Condition) -> Condition:
    return Condition(STALLED, "True", ready.reason, ready.message)


def _own_fields(status: Manifest) -> Manifest:
    return {key: value for key, value in status.items() if key not in _FRAME_FIELDS}


def _unexpected(adapter: VerifiedAdapter, spec: AdapterSpec) -> str:
    """Return how the adapter differs from what the spec expects; empty when it does not."""
    if spec.digest is not None and spec.digest != adapter.digest:
        return f"spec.digest expects {spec.digest}, the files have {adapter.digest}"
    expected = spec.base_model.hugging_face.repo if spec.base_model and spec.base_model.hugging_face else None
    # What was trained here names the commit too: repository@commit.
    if expected is not None and expected != adapter.base_model.partition("@")[0]:
        return (
            f"spec.baseModel expects an adapter for {expected}, "
            f"adapter_config.json says it was made for {adapter.base_model!r}"
        )
    return ""


def _facts(adapter: VerifiedAdapter, spec: AdapterSpec) -> Manifest:
    """Return what status tells of a sound adapter."""
    volume = spec.source.volume
    assert volume is not None, "only adapters on volumes are verified"  # noqa: S101 - a bug of ours
    facts: Manifest = {
        "phase": "Ready",
        "digest": adapter.digest,
        "sizeBytes": adapter.size_bytes,
        "method": adapter.method,
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "targetModules": list(adapter.target_modules[:_LISTED_MAX]),
        "baseModel": _present({"name": adapter.base_model, "digest": adapter.base_model_digest}),
        "templateHash": adapter.template_hash,
        "datasetDigest": adapter.dataset_digest,
        "metrics": {
            name: value[:_LISTED_MAX] for name, value in sorted(adapter.metrics.items())[:_LISTED_MAX]
        },
        "files": _files(adapter),
        "location": {"claimName": volume.claim_name, "path": volume.path},
    }
    return _present(facts)


def _produced_by(maker: Manifest | None) -> Manifest:
    if maker is None or maker.get("kind") != FINETUNEJOBS.kind:
        return {}
    return {"producedBy": {"name": maker["name"], "uid": maker["uid"]}}


def _files(adapter: VerifiedAdapter) -> list[Manifest]:
    if len(adapter.files) > _LISTED_MAX:
        return []
    return [file.model_dump(by_alias=True, mode="json") for file in adapter.files]


def _present(fields: Manifest) -> Manifest:
    """Leave out what is not known: the API has no nulls."""
    return {key: value for key, value in fields.items() if value not in (None, [], {})}
