"""The schemas on the real API server: every row of the table, changes of objects, defaults, and what people see."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from devcluster.apiserver import ApiServer, delete_namespace
from fettle_operator.api.adapter import Adapter, AdapterFile, AdapterStatus, AdapterUser, BaseModelFacts
from fettle_operator.api.base import Condition, InvalidObjectError, Resource, refused_changes
from fettle_operator.api.finetunejob import Attempt, FineTuneJob, FineTuneJobStatus, Progress
from fettle_operator.api.inferencedeployment import InferenceDeploymentStatus, TrafficShare
from fettle_operator.api.kinds import KINDS
from spec_table import FULL_SPECS, HANDWRITTEN, MINIMAL_SPECS, Row, generated_rows
from spec_table.rows import REMOVE, changed
from spec_table.samples import DIGEST, SHA
from spec_table.server import Client, Verdict

pytestmark = pytest.mark.apiserver

KIND_MODELS = {kind.info.kind: kind for kind in KINDS}
NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = Condition(type="Ready", status="True", reason="Done", message="all is well", last_transition_time=NOW)


@pytest.fixture(scope="module")
def shared_namespace(installed: ApiServer) -> Iterator[str]:
    name = f"schema-{uuid.uuid4().hex[:8]}"
    installed.api().request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    delete_namespace(installed.api(), name)


@pytest.fixture
def client(installed: ApiServer, shared_namespace: str) -> Iterator[Client]:
    """Return a client of a namespace without objects; emptying one is much faster than making one."""
    client = Client(installed, shared_namespace)
    yield client
    for kind in KIND_MODELS:
        client.delete_all(kind)


def manifest(kind: str, spec: dict[str, Any], name: str = "mine") -> dict[str, Any]:
    return {"apiVersion": "fettle.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def created(client: Client, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    answer = client.create(manifest(kind, spec))
    assert answer.accepted, answer.message
    return answer.body


def disagreements(row: Row, answer: Verdict) -> Iterator[str]:
    """Yield what is wrong with the verdicts of server and model on a row."""
    model = KIND_MODELS[row.kind]
    if answer.status >= 500 or "budget" in answer.message:
        yield "the server could not judge"
    if row.accepted is not None and row.accepted != answer.accepted:
        yield f"should be {'accepted' if row.accepted else 'refused'}"
    if row.accepted is False and not (named(row.blames, answer) and row.says in answer.message):
        yield f"does not name {row.blames} or say {row.says!r}"
    try:
        found = model.read(row.manifest)
    except InvalidObjectError as error:
        yield from different_refusals(error, answer)
    else:
        if not answer.accepted:
            yield "the model accepts it"
        elif model.read(answer.body).spec != found.spec:
            yield "the defaults differ"


def different_refusals(error: InvalidObjectError, answer: Verdict) -> Iterator[str]:
    """Yield where the server accepts, blames or says something else than the model."""
    problems = dict(problem.split(": ", 1) for problem in error.problems)
    if not any(named(path, answer) for path in problems):
        yield f"the model names other fields: {problems}"
    # The server leaves rules out on a value that is too long or of the wrong type, and says so or names the type.
    if "rules were not checked" in answer.message or "must be of type" in answer.message:
        return
    for sentence in problems.values():
        if sentence.startswith("must be ") and sentence not in answer.message:
            yield f"does not say {sentence!r}"


def named(path: str, answer: Verdict) -> bool:
    """Tell whether a refusal names a path; that of an unknown field has it in the message only."""
    return path in answer.fields or f'unknown field "{path}"' in answer.message


def test_the_server_and_the_models_agree_on_every_row_and_name_the_same_field(client: Client) -> None:
    rows = [*HANDWRITTEN, *generated_rows()]
    answers = client.dry_run_all(row.manifest for row in rows)
    wrong = [
        f"{row.kind} {row.title}: {problem} ({answer.status} {answer.message})"
        for row, answer in zip(rows, answers, strict=True)
        for problem in disagreements(row, answer)
    ]
    assert len(rows) > 2000
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", MINIMAL_SPECS)
def test_unknown_fields_are_pruned_when_the_client_does_not_ask_for_strictness(
    client: Client, kind: str
) -> None:
    whole = manifest(kind, MINIMAL_SPECS[kind] | {"podTemplate": {"spec": {"hostNetwork": True}}})
    assert "podTemplate" not in client.create(whole, validation="Ignore").body["spec"]


@pytest.mark.parametrize("kind", MINIMAL_SPECS)
@pytest.mark.parametrize(
    ("name", "accepted"), [("a" * 45, True), ("a" * 46, False), ("a.b", False), ("1-a", True)]
)
def test_a_name_leaves_room_for_the_names_of_children(
    client: Client, kind: str, name: str, accepted: bool
) -> None:
    whole = manifest(kind, MINIMAL_SPECS[kind], name)
    answer = client.create(whole, dry_run=True)
    assert answer.accepted == accepted, answer.message
    if accepted:
        assert KIND_MODELS[kind].read(whole).metadata.name == name
    else:
        assert "metadata.name" in answer.fields
        with pytest.raises(InvalidObjectError, match=r"^metadata\.name: "):
            KIND_MODELS[kind].read(whole)


@pytest.mark.parametrize("kind", MINIMAL_SPECS)
def test_a_fresh_object_cannot_pass_for_one_that_is_done(client: Client, kind: str) -> None:
    forged = manifest(kind, MINIMAL_SPECS[kind]) | {"status": {"observedGeneration": 1}}
    assert client.create(forged).body["status"] == {"observedGeneration": -1}


def test_nested_defaults_fire_in_the_smallest_job(client: Client) -> None:
    spec = created(client, "FineTuneJob", MINIMAL_SPECS["FineTuneJob"])["spec"]
    assert spec == MINIMAL_SPECS["FineTuneJob"] | {
        "dataset": MINIMAL_SPECS["FineTuneJob"]["dataset"] | {"maxBadRows": 0},
        "distributed": {"nodes": 1, "processesPerNode": 1},
        "method": "lora",
        "profile": "cpu",
        "scheduling": {"retries": 3, "suspend": False},
        "training": {},
    }


STATUSES: dict[str, AdapterStatus | FineTuneJobStatus | InferenceDeploymentStatus] = {
    "Adapter": AdapterStatus(
        observed_generation=1,
        conditions=[READY],
        phase="Ready",
        digest=DIGEST,
        size_bytes=2**40,
        method="lora",
        rank=16,
        alpha=32,
        target_modules=["q_proj", "v_proj"],
        base_model=BaseModelFacts(name="org/model", digest=DIGEST),
        metrics={"exact-match": "0.83"},
        files=[AdapterFile(path="a b.json", sha256=SHA, size_bytes=0)],
        used_by=[AdapterUser(kind="InferenceDeployment", name="chat")],
    ),
    "FineTuneJob": FineTuneJobStatus(
        observed_generation=1,
        conditions=[READY],
        phase="Running",
        attempts=[Attempt(number=1, job_name="mine-a1", outcome="Running", nodes=["node-1"], start_time=NOW)],
        attempt_count=1,
        progress=Progress(
            step=120, total_steps=500, loss=1.25, eta="1h12m", summary="120/500 (24%)", updated_at=NOW
        ),
        resolved={"training.batchSize": "16"},
        gpu_seconds=3600,
        gpu_hours="1.00",
    ),
    "InferenceDeployment": InferenceDeploymentStatus(
        observed_generation=1,
        conditions=[READY],
        phase="Healthy",
        stable_revision="chat-0123456789",
        replicas=2,
        ready_replicas=2,
        selector="fettle.dev/pool=chat",
        traffic=[TrafficShare(revision="chat-0123456789", role="stable", weight=100, ready=True)],
    ),
}


@pytest.mark.parametrize("kind", STATUSES)
def test_the_server_stores_the_status_that_the_models_write(client: Client, kind: str) -> None:
    found = created(client, kind, FULL_SPECS[kind][0])
    answer = client.replace(found | {"status": STATUSES[kind].manifest()}, subresource="status")
    assert answer.accepted, answer.message
    assert KIND_MODELS[kind].read(answer.body).model_dump()["status"] == STATUSES[kind].model_dump()


def test_people_see_the_columns_of_a_running_job(client: Client) -> None:
    found = created(client, "FineTuneJob", FULL_SPECS["FineTuneJob"][0])
    client.replace(found | {"status": STATUSES["FineTuneJob"].manifest()}, subresource="status")
    table = client.get("FineTuneJob", accept="application/json;as=Table;v=v1;g=meta.k8s.io").body
    shown = dict(
        zip([column["name"] for column in table["columnDefinitions"]], table["rows"][0]["cells"], strict=True)
    )
    del shown["Age"]
    assert shown == {
        "Name": "mine",
        "Phase": "Running",
        "Progress": "120/500 (24%)",
        "Loss": 1.25,
        "ETA": "1h12m",
        "Adapter": None,
        "Method": "lora",
        "Attempts": 1,
        "GPU·h": "1.00",
        "Reason": "Done",
    }


def test_an_autoscaler_reads_the_scale_of_a_deployment_that_names_no_number(client: Client) -> None:
    created(client, "InferenceDeployment", MINIMAL_SPECS["InferenceDeployment"])
    assert client.get("InferenceDeployment", "mine", "scale").body["spec"] == {"replicas": 1}


def test_a_strategy_can_be_exchanged_by_apply(client: Client) -> None:
    strategies: tuple[dict[str, Any], ...] = (
        {},
        {"strategy": {"canary": {"steps": [{"weight": 10}]}}},
        {"strategy": {"replace": {}}},
        {"strategy": {"blueGreen": {}}},
    )
    for strategy in strategies:
        spec = MINIMAL_SPECS["InferenceDeployment"] | strategy
        answer = client.apply(manifest("InferenceDeployment", spec), manager="git")
        assert answer.accepted, answer.message


# ---------------------------------------------------------------- what may change

FIELD_CHANGES: dict[str, Any] = {
    "model": {"adapterRef": {"name": "other"}},
    "dataset": {"train": [{"configMap": {"name": "other"}}], "validationSplit": "5%"},
    "method": "dora",
    "lora": {"rank": 8},
    "training": {"epochs": 2},
    "distributed": {"nodes": 1, "processesPerNode": 1},
    "profile": "cpu",
    "resources": {"limits": {"cpu": 1}},
    "scheduling.queueName": "other",
    "scheduling.priorityClassName": "other",
    "scheduling.nodeSelector": {"pool": "other"},
    "scheduling.tolerations": [{"key": "other", "operator": "Exists"}],
    "scheduling.deadlineSeconds": 60,
    "evaluation": {"metrics": ["bleu"]},
    "output": {"adapterName": "other"},
    "tracking": {"tensorboard": False},
}
FREE_CHANGES: dict[str, Any] = {
    "scheduling.suspend": True,
    "scheduling.retries": 9,
    "scheduling.ttlSecondsAfterFinished": 1,
}


def started(client: Client, spec: dict[str, Any]) -> dict[str, Any]:
    """Create a job whose first attempt has started."""
    found = created(client, "FineTuneJob", spec)
    answer = client.replace(found | {"status": STATUSES["FineTuneJob"].manifest()}, subresource="status")
    assert answer.accepted, answer.message
    return answer.body


def change(client: Client, found: dict[str, Any], spec: dict[str, Any]) -> tuple[Verdict, tuple[str, ...]]:
    """Ask server and model for their verdict on a changed spec."""
    wanted = found | {"spec": spec}
    model: type[Resource] = KIND_MODELS[found["kind"]]
    return client.replace(wanted, dry_run=True), refused_changes(model.read(found), model.read(wanted))


def test_the_changes_below_try_every_field_of_a_job() -> None:
    assert [f"spec.{field}" for field in FIELD_CHANGES] == [
        rule.field for rule in FineTuneJob.transition_rules
    ]


@pytest.mark.parametrize("start", ["full", "smallest"])
def test_once_an_attempt_has_started_a_changed_field_is_refused_by_name(client: Client, start: str) -> None:
    spec = FULL_SPECS["FineTuneJob"][0] if start == "full" else MINIMAL_SPECS["FineTuneJob"]
    # Without these two every change below obeys the rules that look at one spec alone.
    spec = changed(changed(spec, "lora", {"rank": 16}), "output", {"store": {"claimName": "results"}})
    found = started(client, spec)
    for field, value in FIELD_CHANGES.items():
        if field == "distributed" and start == "smallest":
            value = {"nodes": 2}  # noqa: PLW2901 - the other value is the default
        if field == "profile" and start == "smallest":
            value = "gpu"  # noqa: PLW2901 - as above
        answer, problems = change(client, found, changed(found["spec"], field, value))
        assert f"spec.{field}" in answer.fields, f"{field}: {answer.message}"
        assert "is fixed once the first attempt has started" in answer.message
        assert [problem.split(": ")[0] for problem in problems] == [f"spec.{field}"]


def test_once_an_attempt_has_started_an_optional_field_cannot_be_taken_away(client: Client) -> None:
    found = started(client, FULL_SPECS["FineTuneJob"][0])
    for field in ("lora", "resources", "evaluation", "output", "tracking", "scheduling.queueName"):
        answer, problems = change(client, found, changed(found["spec"], field, REMOVE))
        assert f"spec.{field}" in answer.fields, f"{field}: {answer.message}"
        assert [problem.split(": ")[0] for problem in problems] == [f"spec.{field}"]


def test_once_an_attempt_has_started_suspend_retries_and_ttl_still_change(client: Client) -> None:
    found = started(client, FULL_SPECS["FineTuneJob"][0])
    for field, value in FREE_CHANGES.items():
        answer, problems = change(client, found, changed(found["spec"], field, value))
        assert (answer.accepted, problems) == (True, ()), f"{field}: {answer.message}"


def test_once_an_attempt_has_started_the_order_of_a_set_still_means_nothing(client: Client) -> None:
    found = started(client, FULL_SPECS["FineTuneJob"][0])
    answer, problems = change(
        client, found, changed(found["spec"], "lora.targetModules", ["v_proj", "q_proj"])
    )
    assert (answer.accepted, problems) == (True, ()), answer.message


def test_before_the_first_attempt_every_field_of_a_job_may_change(client: Client) -> None:
    found = created(client, "FineTuneJob", MINIMAL_SPECS["FineTuneJob"])
    spec = changed(found["spec"], "lora", {"rank": 16})
    for field, value in (FIELD_CHANGES | FREE_CHANGES).items():
        spec = changed(spec, field, value)
        answer, problems = change(client, found, spec)
        assert (answer.accepted, problems) == (True, ()), f"{field}: {answer.message}"


def test_the_status_of_a_job_that_has_started_still_moves(client: Client) -> None:
    found = started(client, FULL_SPECS["FineTuneJob"][0])
    status = found["status"] | {"phase": "Succeeded"}
    assert client.replace(found | {"status": status}, subresource="status").accepted


def test_the_spec_of_an_adapter_never_changes(client: Client) -> None:
    found = created(client, "Adapter", FULL_SPECS["Adapter"][0])
    for field, value in {
        "digest": REMOVE,
        "source": {"fineTuneJob": {"name": "job"}},
        "baseModel": REMOVE,
    }.items():
        answer, problems = change(client, found, changed(found["spec"], field, value))
        assert "spec" in answer.fields
        assert "spec is immutable; create another Adapter" in answer.message
        assert problems == ("spec: spec is immutable; create another Adapter",)


def test_the_labels_of_an_adapter_still_change(client: Client) -> None:
    found = created(client, "Adapter", FULL_SPECS["Adapter"][0])
    found["metadata"]["labels"] = {"team": "a"}
    assert client.replace(found).accepted
    assert Adapter.read(client.get("Adapter", "mine").body).metadata.labels == {"team": "a"}
