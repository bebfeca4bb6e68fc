"""What every Cluster does: the same tests for the real API server and for the fake of the fast tests."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from devcluster.apiserver import ApiServer
from fake_cluster import FakeCluster
from fettle_operator.cluster import Cluster, KubeCluster, load_credentials
from fettle_operator.cluster.transport import Transport
from fettle_operator.errors import AlreadyExists, Conflict, Forbidden, NotFound, Refused
from fettle_operator.metrics import Metrics
from fettle_operator.resources import ADAPTERS, EVENTS, JOBS, ApiResource, Manifest, ObjectRef

CONFIGMAPS = ApiResource("", "v1", "configmaps", "ConfigMap")


class Ground:
    """One cluster and one namespace in it."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def configmap(self, name: str = "thing", **more: Any) -> Manifest:
        return {"metadata": {"namespace": self.namespace, "name": name, **more.pop("metadata", {})}, **more}

    def ref(self, name: str = "thing", resource: ApiResource = CONFIGMAPS) -> ObjectRef:
        return ObjectRef(resource, self.namespace, name)

    async def adapter(self) -> Manifest:
        manifest = {
            "apiVersion": "fettle.dev/v1alpha1",
            "kind": "Adapter",
            "metadata": {"namespace": self.namespace, "name": "tuned"},
            "spec": {"source": {"volume": {"claimName": "store", "path": "a"}}},
        }
        return await self.cluster.create(ADAPTERS, manifest)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.apiserver)])
async def ground(request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    if request.param == "fake":
        yield Ground(FakeCluster(), "somewhere")
        return
    server: ApiServer = request.getfixturevalue("installed")
    namespace: str = request.getfixturevalue("namespace")
    async with Transport(load_credentials(server.kubeconfig), Metrics()) as transport:
        yield Ground(KubeCluster(transport), namespace)


async def test_what_does_not_exist_is_none(ground: Ground) -> None:
    assert await ground.cluster.get(ground.ref("absent")) is None


async def test_what_was_created_is_read_and_listed(ground: Ground) -> None:
    made = await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1"}))

    assert await ground.cluster.get(ground.ref()) is not None
    listed = await ground.cluster.list(CONFIGMAPS, ground.namespace)
    assert made["metadata"]["uid"] in [each["metadata"]["uid"] for each in listed]


async def test_what_fills_more_than_a_page_is_listed_once_each(ground: Ground) -> None:
    wanted = {f"c{number:03}" for number in range(230)}
    made = (ground.cluster.create(CONFIGMAPS, ground.configmap(name)) for name in sorted(wanted))
    await asyncio.gather(*made)

    listed = [each["metadata"]["name"] for each in await ground.cluster.list(CONFIGMAPS, ground.namespace)]
    scanned = [each["metadata"]["name"] async for each in ground.cluster.scan(CONFIGMAPS, ground.namespace)]

    assert listed == scanned
    assert len(set(listed)) == len(listed)
    assert wanted <= set(listed)


async def test_a_list_is_narrowed_by_labels(ground: Ground) -> None:
    await ground.cluster.create(CONFIGMAPS, ground.configmap("ours", metadata={"labels": {"team": "a"}}))
    await ground.cluster.create(CONFIGMAPS, ground.configmap("theirs", metadata={"labels": {"team": "b"}}))

    listed = await ground.cluster.list(CONFIGMAPS, ground.namespace, {"team": "a"})

    assert [each["metadata"]["name"] for each in listed] == ["ours"]


async def test_a_list_is_narrowed_by_fields(ground: Ground) -> None:
    for name in ("one", "two"):
        regarding = {"kind": "Job", "namespace": ground.namespace, "name": name, "uid": f"uid-{name}"}
        await ground.cluster.create(EVENTS, ground.configmap(name, involvedObject=regarding, reason="Told"))

    listed = await ground.cluster.list(EVENTS, ground.namespace, fields={"involvedObject.uid": "uid-two"})

    assert [each["metadata"]["name"] for each in listed] == ["two"]


async def test_a_name_that_is_taken_is_told(ground: Ground) -> None:
    await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1"}))

    with pytest.raises(AlreadyExists):
        await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "2"}))

    found = await ground.cluster.get(ground.ref())
    assert found is not None
    assert found["data"] == {"a": "1"}


async def test_an_apply_removes_what_the_creation_had_and_the_intent_has_no_more(ground: Ground) -> None:
    made = await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1", "b": "2"}))

    once = await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"b": "3", "c": "4"}), made)
    twice = await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"c": "4"}), once)

    assert once["data"] == {"b": "3", "c": "4"}
    assert twice["data"] == {"c": "4"}


async def test_an_apply_that_changes_nothing_leaves_the_version(ground: Ground) -> None:
    made = await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1"}))
    once = await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"a": "1"}), made)

    again = await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"a": "1"}), once)

    assert again["metadata"]["resourceVersion"] == once["metadata"]["resourceVersion"]


async def test_an_apply_never_touches_a_namesake(ground: Ground) -> None:
    first = await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1"}))
    await ground.cluster.delete(CONFIGMAPS, first)
    await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "theirs"}))

    with pytest.raises(Conflict):
        await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"a": "ours"}), first)

    found = await ground.cluster.get(ground.ref())
    assert found is not None
    assert found["data"] == {"a": "theirs"}


async def test_a_delete_spares_what_has_changed_since_it_was_read(ground: Ground) -> None:
    read = await ground.cluster.create(CONFIGMAPS, ground.configmap(data={"a": "1"}))
    await ground.cluster.apply(CONFIGMAPS, ground.configmap(data={"a": "2"}), read)

    with pytest.raises(Conflict):
        await ground.cluster.delete(CONFIGMAPS, read)

    assert await ground.cluster.get(ground.ref()) is not None


async def test_deleting_what_is_gone_is_fine(ground: Ground) -> None:
    made = await ground.cluster.create(CONFIGMAPS, ground.configmap())
    await ground.cluster.delete(CONFIGMAPS, made)

    await ground.cluster.delete(CONFIGMAPS, made)

    assert await ground.cluster.get(ground.ref()) is None


async def test_a_status_is_replaced_as_a_whole(ground: Ground) -> None:
    made = await ground.adapter()
    once = await ground.cluster.write_status(ADAPTERS, made, {"observedGeneration": 1, "phase": "Pending"})

    twice = await ground.cluster.write_status(ADAPTERS, once, {"observedGeneration": 1, "rank": 8})

    assert twice["status"] == {"observedGeneration": 1, "rank": 8}


async def test_a_status_is_not_written_over_a_newer_one(ground: Ground) -> None:
    made = await ground.adapter()
    await ground.cluster.write_status(ADAPTERS, made, {"observedGeneration": 1, "phase": "Ready"})

    with pytest.raises(Conflict):
        await ground.cluster.write_status(ADAPTERS, made, {"observedGeneration": 1, "phase": "Pending"})


async def test_a_status_of_nothing_is_told(ground: Ground) -> None:
    made = await ground.adapter()
    await ground.cluster.delete(ADAPTERS, made)

    with pytest.raises(NotFound):
        await ground.cluster.write_status(ADAPTERS, made, {"observedGeneration": 1})


async def test_a_finalizer_holds_an_object_until_it_is_taken_off(ground: Ground) -> None:
    made = await ground.adapter()
    held = await ground.cluster.write_finalizers(ADAPTERS, made, ["fettle.dev/in-use"])
    await ground.cluster.delete(ADAPTERS, held)
    dying = await ground.cluster.get(ground.ref("tuned", ADAPTERS))
    assert dying is not None
    assert "deletionTimestamp" in dying["metadata"]

    await ground.cluster.write_finalizers(ADAPTERS, dying, [])

    assert await ground.cluster.get(ground.ref("tuned", ADAPTERS)) is None


@pytest.mark.apiserver
async def test_a_wrong_object_is_refused_with_the_servers_words(installed: ApiServer, namespace: str) -> None:
    async with Transport(load_credentials(installed.kubeconfig), Metrics()) as transport:
        job = {"metadata": {"namespace": namespace, "name": "bad"}, "spec": {"template": {"spec": {}}}}

        with pytest.raises(Refused, match=r"spec\.template\.spec\.containers"):
            await KubeCluster(transport).create(JOBS, job)


@pytest.mark.apiserver
async def test_a_missing_permission_is_told_with_the_servers_words(
    installed: ApiServer, namespace: str
) -> None:
    stranger = load_credentials(installed.kubeconfig)
    stranger = type(stranger)(server=stranger.server, ca_data=stranger.ca_data, fixed_token="wrong")
    async with Transport(stranger, Metrics()) as transport:
        with pytest.raises(Forbidden, match="list jobs"):
            await KubeCluster(transport).list(JOBS, namespace)
