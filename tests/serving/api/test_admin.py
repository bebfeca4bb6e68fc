"""The operator's port: the full list in, what is really loaded out, and nothing for anybody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fettle_server.admin import BearerToken, admin_app
from fettle_server.api.names import Names
from fettle_server.api.serving import Serving
from fettle_server.engine.types import AdapterSpec
from scripted_engine import ScriptedEngine

DIGEST = f"sha256:{'a' * 64}"
TOKEN = "0123456789abcdef"

Admin = Callable[..., httpx.AsyncClient]


def entry(**changes: Any) -> dict[str, Any]:
    return {"revision": "rev-a", "digest": DIGEST, "path": "tone/sha256-a", **changes}


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def admin(engine: ScriptedEngine, tmp_path: Path) -> Admin:
    async def shadow(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError

    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "way-out").symlink_to(tmp_path)
    app = admin_app(Serving(engine, started=True), Names("tiny", "base"), tmp_path / "store", shadow)

    def client(token: str = TOKEN) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(BearerToken(app, tmp_path / "token"))
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=transport, base_url="http://admin", headers=headers)

    return client


async def test_the_list_is_taken_as_a_whole_and_its_state_is_told(
    admin: Admin, engine: ScriptedEngine
) -> None:
    async with admin() as client:
        two = [entry(), entry(revision="rev-b", path="other")]
        assert (await client.put("/adapters", json={"adapters": two})).status_code == 200
        told = await client.put("/adapters", json={"adapters": [entry()]})
        assert told.json() == {
            "base": "base",
            "ready": True,
            "adapters": [
                {
                    "revision": "rev-a",
                    "digest": DIGEST,
                    "state": "Loading",
                    "reason": "",
                    "message": "",
                    "in_flight": 0,
                }
            ],
        }
        assert (await client.get("/adapters")).json() == told.json()
    assert engine.wanted == [AdapterSpec("rev-a", DIGEST, "tone/sha256-a")]


@pytest.mark.parametrize(
    ("adapters", "code", "param"),
    [
        ([entry(revision="base")], "reserved_name", "adapters[0].revision"),
        ([entry(), entry(revision="tiny")], "reserved_name", "adapters[1].revision"),
        ([entry(path="../store-2")], "path_outside_root", "adapters[0].path"),
        ([entry(path="/etc")], "path_outside_root", "adapters[0].path"),
        ([entry(path="way-out/token")], "path_outside_root", "adapters[0].path"),
        ([entry(path="a\0b")], "path_outside_root", "adapters[0].path"),
        ([entry(), entry()], "listed_twice", "adapters"),
        ([entry(digest="latest")], "invalid_value", "adapters[0].digest"),
        ([entry(revision="Rev_A")], "invalid_value", "adapters[0].revision"),
        ([entry(weight=1)], "unknown_parameter", "adapters[0].weight"),
    ],
)
async def test_a_list_that_must_not_be_served_changes_nothing(
    admin: Admin, engine: ScriptedEngine, adapters: list[Any], code: str, param: str
) -> None:
    async with admin() as client:
        refused = await client.put("/adapters", json={"adapters": adapters})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
    assert engine.wanted == []


async def test_nobody_passes_without_the_token_that_the_file_holds_now(admin: Admin, tmp_path: Path) -> None:
    async with admin() as client, admin("fedcba9876543210") as other:
        assert (await client.get("/version")).status_code == 200
        assert (await other.get("/adapters")).status_code == 401
        assert (await client.get("/adapters", headers={"authorization": TOKEN})).status_code == 401
        (tmp_path / "token").write_text("fedcba9876543210")
        assert (await client.get("/adapters")).status_code == 401
        assert (await other.get("/adapters")).status_code == 200
        (tmp_path / "token").write_text("")
        assert (await client.get("/adapters", headers={"authorization": "Bearer "})).status_code == 401
        (tmp_path / "token").unlink()
        assert (await client.get("/adapters", headers={"authorization": "Bearer "})).status_code == 401


async def test_other_methods_are_told_what_the_path_takes(admin: Admin) -> None:
    async with admin() as client:
        refused = await client.delete("/adapters")
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}
