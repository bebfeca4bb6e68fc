"""What the API server's answers mean, and where its address and our identity come from."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from fettle_operator.cluster.answers import error_of
from fettle_operator.cluster.credentials import load_credentials
from fettle_operator.cluster.merge import merge_patch
from fettle_operator.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidConfiguration,
    NotFound,
    Refused,
    Unavailable,
)


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (401, "Unauthorized", Forbidden),
        (403, "Forbidden", Forbidden),
        (422, "Invalid", Refused),
        (400, "BadRequest", Refused),
        (410, "Expired", Unavailable),
        (429, "TooManyRequests", Unavailable),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
    ],
)
def test_a_code_becomes_an_error_with_the_servers_sentence(status: int, reason: str, expected: type) -> None:
    body = json.dumps({"kind": "Status", "reason": reason, "message": "because"}).encode()

    error = error_of("create jobs", status, body, {"Retry-After": "7"})

    assert type(error) is expected
    assert str(error) == "create jobs: because"
    if isinstance(error, Unavailable):
        assert error.retry_after_s == 7


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff"])
def test_a_reply_that_is_no_status_object_is_told_as_it_is(body: bytes) -> None:
    assert isinstance(error_of("get jobs", 502, body, {"Retry-After": "soon"}), Unavailable)


def test_a_pod_uses_its_service_account_and_rereads_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    (tmp_path / "ca.crt").write_text("certificate")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}

    credentials = load_credentials(None, environment, tmp_path)
    (tmp_path / "token").write_text("second\n")

    assert credentials.server == "https://[fd00::1]:443"
    assert credentials.token() == "second"


def test_outside_a_pod_and_without_a_kubeconfig_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="--kubeconfig"):
        load_credentials(None, {}, tmp_path)


def kubeconfig(tmp_path: Path, user: dict[str, Any], **cluster: Any) -> Path:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://example:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_kubeconfig_holds_data_inline_or_in_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"certificate")
    inline = base64.b64encode(b"mine").decode()

    credentials = load_credentials(
        kubeconfig(tmp_path, {"client-certificate-data": inline}, **{"certificate-authority": "ca.crt"})
    )

    assert credentials.server == "https://example:6443"
    assert credentials.ca_data == b"certificate"
    assert credentials.certificate_data == b"mine"


@pytest.mark.parametrize("user", [{"exec": {"command": "login"}}, {"auth-provider": {"name": "x"}}])
def test_a_login_by_a_program_is_refused_with_a_sentence(tmp_path: Path, user: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfiguration, match="not supported; use a certificate or a token"):
        load_credentials(kubeconfig(tmp_path, user))


@pytest.mark.parametrize("text", ["", "contexts: []", "current-context: nowhere\ncontexts: []", "["])
def test_a_broken_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)

    with pytest.raises(InvalidConfiguration, match=str(path)):
        load_credentials(path)


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, {}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": "text"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_a_merge_patch_says_only_what_changes(old: Any, new: Any, patch: Any) -> None:
    assert merge_patch(old, new) == patch
