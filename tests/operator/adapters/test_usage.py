"""Who uses an adapter."""

from typing import Any

import pytest

from fettle_operator.adapters.usage import UsageIndex, User, adapters_used_by, users_of
from fettle_operator.resources import ADAPTERS, FINETUNEJOBS, INFERENCEDEPLOYMENTS, ApiResource, ObjectRef


def user(name: str = "chat", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "team", "name": name}, "spec": spec, "status": status or {}}


def by(name: str) -> dict[str, Any]:
    return {"adapterRef": {"name": name}}


@pytest.mark.parametrize(
    ("resource", "manifest", "used"),
    [
        (INFERENCEDEPLOYMENTS, user(adapter=by("a")), {"a"}),
        (INFERENCEDEPLOYMENTS, user(adapter={"volume": {"claimName": "store", "path": "a"}}), set()),
        (INFERENCEDEPLOYMENTS, user(variants=[{"name": "b", "adapter": by("b")}, {"name": "base"}]), {"b"}),
        (INFERENCEDEPLOYMENTS, user(shadow={"adapter": by("c"), "percent": 5}), {"c"}),
        (INFERENCEDEPLOYMENTS, user(model=by("d")), {"d"}),
        (FINETUNEJOBS, user(model=by("a")), {"a"}),
        (FINETUNEJOBS, user(model=by("a"), status={"phase": "Running"}), {"a"}),
        (FINETUNEJOBS, user(model=by("a"), status={"phase": "Succeeded"}), set()),
        (FINETUNEJOBS, user(model=by("a"), status={"phase": "Failed"}), set()),
        (FINETUNEJOBS, user(model={"huggingFace": {"repo": "x"}}), set()),
        (INFERENCEDEPLOYMENTS, {"metadata": {"namespace": "team", "name": "bare"}}, set()),
    ],
)
def test_every_place_that_can_name_an_adapter_counts(
    resource: ApiResource, manifest: dict[str, Any], used: set[str]
) -> None:
    assert adapters_used_by(resource, manifest) == used


def test_users_are_named_in_order() -> None:
    listed = {
        INFERENCEDEPLOYMENTS: [user("z", adapter=by("a")), user("other", adapter=by("b"))],
        FINETUNEJOBS: [user("sft", model=by("a"))],
    }

    assert users_of("a", listed) == (User("FineTuneJob", "sft"), User("InferenceDeployment", "z"))


def test_the_index_tells_which_adapters_a_change_concerns() -> None:
    index = UsageIndex()
    old, new = ObjectRef(ADAPTERS, "team", "old"), ObjectRef(ADAPTERS, "team", "new")

    assert index.put(INFERENCEDEPLOYMENTS, user(adapter=by("old"))) == {old}
    assert index.put(INFERENCEDEPLOYMENTS, user(adapter=by("old"))) == frozenset()
    assert index.put(INFERENCEDEPLOYMENTS, user(adapter=by("new"))) == {old, new}
    assert index.users_of("team", "new") == (User("InferenceDeployment", "chat"),)
    assert index.users_of("team", "old") == ()
    assert index.users_of("elsewhere", "new") == ()
    assert index.drop(INFERENCEDEPLOYMENTS, user(adapter=by("new"))) == {new}
    assert index.users_of("team", "new") == ()


def test_a_complete_list_drives_out_the_ghosts_of_its_kind_alone() -> None:
    index = UsageIndex()
    index.put(INFERENCEDEPLOYMENTS, user("ghost", adapter=by("a")))
    index.put(FINETUNEJOBS, user("sft", model=by("a")))

    concerned = index.replace_all(INFERENCEDEPLOYMENTS, [user("chat", adapter=by("b"))])

    assert {ref.name for ref in concerned} == {"a", "b"}
    assert index.users_of("team", "a") == (User("FineTuneJob", "sft"),)
