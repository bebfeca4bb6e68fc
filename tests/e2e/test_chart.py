"""The life of a release on a real cluster: install, upgrade, kinds upgraded under live objects, uninstall, reinstall.

The tests tell one story and run in the order of this file, in namespaces of their own. They take the cluster-wide
objects over from whatever release has them, and lose none of its objects.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from devcluster.waiting import wait_until
from helm_chart import CHART, ROOT, VALUE_SETS, HelmRefusedError, pods, program, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

RELEASE = "fettle"
HOME = "chart-test"
WATCHED = "chart-test-watched"
UNWATCHED = "chart-test-unwatched"
ELSEWHERE = "chart-test-elsewhere"
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
ADAPTER_CRD = "adapters.fettle.dev"
PATIENCE_S = 90.0


class Release:
    """One release of the chart, and the cluster it is on."""

    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
        self._scratch = scratch

    def helm(self, *arguments: str, namespace: str = HOME) -> str:
        """Run Helm, or raise with what it complained about."""
        return said(self._run(program("helm"), "--namespace", namespace, *arguments))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl, or raise with what it complained about."""
        return said(self._run(program("kubectl"), *arguments, stdin=stdin))

    def install(self, *options: str, chart: Path = CHART, namespace: str = HOME) -> None:
        """Install or upgrade, and wait until the operator is ready."""
        images = ("--values", str(ROOT / "build" / "images.yaml"))
        self.helm(
            *("upgrade", "--install", RELEASE, str(chart), *images, *options),
            *("--take-ownership", "--wait", "--timeout", "3m"),
            namespace=namespace,
        )

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object."""
        answer = self._run(program("kubectl"), "get", *arguments, "--output", "json")
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))

    def operator_pod(self) -> str:
        """Return the UID of the operator's pod."""
        found = self.get("pods", "--namespace", HOME, "--selector", "app.kubernetes.io/component=operator")
        running = [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]
        assert len(running) == 1
        uid: str = running[0]["metadata"]["uid"]
        return uid

    def may(self, verb: str, resource: str, namespace: str, who: str, *options: str) -> bool:
        """Ask the API server what somebody may do."""
        answer = subprocess.run(
            [
                program("kubectl"),
                "auth",
                "can-i",
                verb,
                resource,
                "--namespace",
                namespace,
                "--as",
                who,
                *options,
            ],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return answer.stdout.strip() == "yes"

    def older_chart(self) -> Path:
        """Return the chart as an earlier version may have been: its Adapter knew neither ranks nor a digest to expect."""
        chart = self._scratch / "older"
        shutil.copytree(CHART, chart)
        path = chart / "files" / "crds" / f"{ADAPTER_CRD}.yaml"
        crd = yaml.safe_load(path.read_text())
        version = crd["spec"]["versions"][0]
        version["additionalPrinterColumns"] = [
            column for column in version["additionalPrinterColumns"] if column["name"] != "Rank"
        ]
        properties = version["schema"]["openAPIV3Schema"]["properties"]
        del properties["status"]["properties"]["rank"]
        del properties["spec"]["properties"]["digest"]
        path.write_text(yaml.safe_dump(crd))
        return chart

    def _run(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != 0:
            raise HelmRefusedError(f"{' '.join(command)}\n{said(done)}")
        return done


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a program printed, warnings included."""
    return done.stdout + done.stderr


def adapter(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """Return an Adapter whose claim does not exist: the operator says so, and needs no pod for it."""
    source = {"volume": {"claimName": "not-there", "path": "a"}}
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "Adapter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": source, **spec},
    }


def observed(release: Release, name: str, namespace: str) -> int:
    """Return the generation of an Adapter that the operator has seen; minus one for none."""
    seen: int = release.get("adapter", name, "--namespace", namespace)["status"]["observedGeneration"]
    return seen


def becomes_observed(release: Release, name: str, namespace: str) -> None:
    wait_until(
        lambda: observed(release, name, namespace) >= 1,
        timeout_s=PATIENCE_S,
        every_s=0.5,
        otherwise=lambda: (
            f"nobody acts on {namespace}/{name}: {release.get('adapter', name, '--namespace', namespace)}"
        ),
    )


class ClusterWide:
    """What of Fettle is cluster-wide, as it was before the story; another release may have owned it."""

    OWNER = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")
    ROLES = ("fettle-viewer", "fettle-editor")

    def __init__(self, release: Release) -> None:
        self._release = release
        self._kinds = self._found("customresourcedefinitions")
        self._roles = [each for each in self._found("clusterroles") if each["metadata"]["name"] in self.ROLES]

    def restore(self) -> None:
        """Give the kinds back to their owner, or remove them where there were none; bring the roles back."""
        before = {each["metadata"]["name"]: each for each in self._kinds}
        for crd in self._found("customresourcedefinitions"):
            name = crd["metadata"]["name"]
            if crd["metadata"]["annotations"].get(self.OWNER[1]) != HOME:
                continue  # another release took it over in the meantime
            if name not in before:
                self._release.kubectl("delete", "crd", name, "--wait")
                continue
            owner = before[name]["metadata"].get("annotations", {})
            words = [f"{key}={owner[key]}" if key in owner else f"{key}-" for key in self.OWNER]
            self._release.kubectl("annotate", "crd", name, "--overwrite", *words)
        for role in self._roles:
            metadata = {key: role["metadata"][key] for key in ("name", "labels", "annotations")}
            self._release.apply({**role, "metadata": metadata})

    def _found(self, kind: str) -> list[dict[str, Any]]:
        found = self._release.get(kind, "--selector", "app.kubernetes.io/part-of=fettle")
        items: list[dict[str, Any]] = found["items"]
        return items


@pytest.fixture(scope="module")
def release(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Return the story's release: images built, namespaces there; at the end all is as it was before."""
    subprocess.run(
        [sys.executable, "-m", "images", "build", "operator", "--push"], cwd=ROOT, check=True, timeout=600
    )
    made = Release(cluster.kubeconfig, tmp_path_factory.mktemp("chart"))
    before = ClusterWide(made)
    names = (HOME, WATCHED, UNWATCHED, ELSEWHERE)
    made.apply(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
            for name in names
        )
    )
    yield made
    for namespace in (WATCHED, UNWATCHED):
        made.kubectl(
            "delete", "adapters", "--all", "--namespace", namespace, "--wait=false", "--ignore-not-found"
        )
        for each in made.get("adapters", "--namespace", namespace)["items"]:
            patch = ("--type", "merge", "--patch", '{"metadata":{"finalizers":null}}')
            try:
                made.kubectl("patch", "adapter", each["metadata"]["name"], "--namespace", namespace, *patch)
            except HelmRefusedError as refusal:
                # An operator that still runs may have let it go between the two commands.
                if "NotFound" not in str(refusal):
                    raise
    made.helm("uninstall", RELEASE, "--ignore-not-found", "--wait")
    made.kubectl("delete", "namespace", *names, "--wait", "--timeout=120s")
    before.restore()


def test_every_pod_of_every_value_set_passes_the_restricted_standard(release: Release) -> None:
    """Pods are what the standard is enforced on, so the template of each Deployment is sent as the pod it makes."""
    sent = [
        as_pod(f"{values.stem}-{number}", spec)
        for values in VALUE_SETS
        for number, (_, _, spec) in enumerate(pods(render(values)))
    ]

    answer = release.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(sent))

    assert answer.count("created (server dry run)") == len(sent)
    assert "Warning" not in answer, answer


def test_a_pod_that_is_not_restricted_would_have_been_refused(release: Release) -> None:
    _, _, spec = next(pods(render()))
    pod = as_pod("unrestricted", {**spec, "hostNetwork": True})

    with pytest.raises(HelmRefusedError, match="violates PodSecurity"):
        release.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


def as_pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a pod of its own; the release's account does not exist yet, and the standard does not look at it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": HOME},
        "spec": {**spec, "serviceAccountName": "default"},
    }


def test_it_installs_with_an_older_adapter_kind_and_becomes_ready(release: Release) -> None:
    release.install("--set", f"watchNamespaces={{{WATCHED}}}", chart=release.older_chart())

    release.apply(adapter("kept", WATCHED), adapter("unseen", UNWATCHED))
    becomes_observed(release, "kept", WATCHED)


def test_helm_test_passes(release: Release) -> None:
    assert "Phase:          Succeeded" in release.helm("test", RELEASE, "--timeout", "3m")


def test_a_namespaced_release_neither_sees_nor_may_see_other_namespaces(release: Release) -> None:
    account = f"system:serviceaccount:{HOME}:fettle-operator"

    assert release.may("list", "adapters.fettle.dev", WATCHED, account)
    for namespace in (UNWATCHED, HOME, "default", "kube-system"):
        assert not release.may("list", "adapters.fettle.dev", namespace, account)
    assert not release.may("get", "secrets", WATCHED, account)
    assert observed(release, "unseen", UNWATCHED) == -1
    assert UNWATCHED not in release.kubectl("logs", "deployment/fettle-operator", "--namespace", HOME)


def test_people_who_may_edit_a_namespace_may_edit_our_kinds_in_it(release: Release) -> None:
    for role in ("view", "edit"):
        release.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": WATCHED},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "User", "name": role, "apiGroup": "rbac.authorization.k8s.io"}],
            }
        )
    # The controller that aggregates roles needs a moment.
    wait_until(
        lambda: release.may("create", "finetunejobs.fettle.dev", WATCHED, "edit"),
        timeout_s=PATIENCE_S,
        every_s=0.5,
        otherwise=lambda: "the role edit was not extended",
    )
    assert release.may("list", "finetunejobs.fettle.dev", WATCHED, "view")
    assert not release.may("create", "finetunejobs.fettle.dev", WATCHED, "view")
    assert not release.may("patch", "adapters.fettle.dev", WATCHED, "edit", "--subresource=status")
    assert not release.may("list", "finetunejobs.fettle.dev", UNWATCHED, "view")


def test_an_upgrade_brings_the_newer_kind_and_keeps_the_objects(release: Release) -> None:
    before = release.get("adapter", "kept", "--namespace", WATCHED)
    assert "Rank" not in release.kubectl("get", "adapters", "--namespace", WATCHED)

    release.install("--set", f"watchNamespaces={{{WATCHED}}}")

    after = release.get("adapter", "kept", "--namespace", WATCHED)
    assert (after["metadata"]["uid"], after["spec"]) == (before["metadata"]["uid"], before["spec"])
    assert "RANK" in release.kubectl("get", "adapters", "--namespace", WATCHED)
    digest = "sha256:" + "0" * 64
    release.apply(adapter("newer", WATCHED, digest=digest))
    assert release.get("adapter", "newer", "--namespace", WATCHED)["spec"]["digest"] == digest
    becomes_observed(release, "newer", WATCHED)


def test_a_changed_setting_replaces_the_operator_and_an_equal_upgrade_does_not(release: Release) -> None:
    first = release.operator_pod()
    release.install("--reset-then-reuse-values")
    assert release.operator_pod() == first

    release.install("--reset-then-reuse-values", "--set", "operator.log.level=debug")

    assert release.operator_pod() != first
    becomes_observed(release, "kept", WATCHED)


def test_a_rollback_takes_setting_and_kind_back_and_loses_no_object(release: Release) -> None:
    def level() -> str:
        text = release.get("configmap", "fettle-config", "--namespace", HOME)["data"]["config.yaml"]
        log: dict[str, str] = yaml.safe_load(text)["log"]
        return log["level"]

    before = uids(release)
    assert level() == "debug"

    release.helm("rollback", RELEASE, "1", "--wait", "--timeout", "3m")

    assert level() == "info"
    assert "RANK" not in release.kubectl("get", "adapters", "--namespace", WATCHED)
    assert "digest" not in release.get("adapter", "newer", "--namespace", WATCHED)["spec"]
    release.install("--reset-then-reuse-values")
    assert "digest" in release.get("adapter", "newer", "--namespace", WATCHED)["spec"]
    assert uids(release) == before


def uids(release: Release) -> list[str]:
    """Return the identity of every Adapter in the watched namespace."""
    found = release.get("adapters", "--namespace", WATCHED)["items"]
    return sorted(each["metadata"]["uid"] for each in found)


def test_wrong_values_change_nothing(release: Release) -> None:
    first = release.operator_pod()

    with pytest.raises(HelmRefusedError, match="at '/operator/log/level'"):
        release.install("--reset-then-reuse-values", "--set", "operator.log.level=loud")

    assert release.operator_pod() == first


def test_another_release_is_told_who_owns_the_kinds(release: Release) -> None:
    with pytest.raises(HelmRefusedError, match="invalid ownership metadata"):
        release.helm("install", RELEASE, str(CHART), "--dry-run=server", namespace=ELSEWHERE)


def test_uninstalling_leaves_the_kinds_and_every_object(release: Release) -> None:
    before = uids(release)

    answer = release.helm("uninstall", RELEASE, "--wait", "--timeout", "2m")

    assert f"[CustomResourceDefinition] {ADAPTER_CRD}" in answer
    assert uids(release) == before
    assert len(before) == 2
    wait_until(
        lambda: leftovers(release) == [],
        timeout_s=PATIENCE_S,
        every_s=0.5,
        otherwise=lambda: f"left behind: {leftovers(release)}",
    )


def leftovers(release: Release) -> list[str]:
    """Return what the release left in its own namespace and in the watched one."""
    kinds = "all,configmaps,roles,rolebindings,networkpolicies,serviceaccounts"
    return [
        f"{each['kind']}/{each['metadata']['name']}"
        for namespace in (HOME, WATCHED)
        for each in release.get(kinds, "--namespace", namespace)["items"]
        if each["metadata"]["name"].startswith(RELEASE)
    ]


def test_reinstalled_cluster_wide_it_acts_on_old_and_new_objects_everywhere(release: Release) -> None:
    release.apply(adapter("meanwhile", WATCHED))

    release.install("--set", "clusterWide=true")

    becomes_observed(release, "meanwhile", WATCHED)
    becomes_observed(release, "unseen", UNWATCHED)
    assert "Phase:          Succeeded" in release.helm("test", RELEASE, "--timeout", "3m")
