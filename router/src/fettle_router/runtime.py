"""HAProxy's runtime socket: telling a running process its changes, and asking what it has really loaded."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fettle_router.errors import HaproxyFailed
from fettle_router.layout import Layout
from fettle_router.maps import LOADED
from fettle_router.plan import Action, AddEntry, DeleteEntry, ReplaceMap, SetEntry, SetServer
from fettle_router.slots import Endpoint, Slots, server_name

__all__ = ["Counters", "Loaded", "Runtime", "ask"]

TIMEOUT_S: Final = 5.0
_BATCH_BYTES: Final = 16_000
"""Commands are sent together up to this size; HAProxy takes no more than its buffer in one go."""

_ADMIN_MAINTENANCE: Final = 1
"""Bit of `srv_admin_state`: taken out of rotation by a command."""


@dataclass(frozen=True)
class Loaded:
    """What a running HAProxy has in its memory."""

    version: int
    structure: str
    pid: int


@dataclass(frozen=True)
class Counters:
    """What HAProxy has counted for a revision and a way of getting there (weighted or pinned)."""

    revision: str
    route: str
    requests: int
    client_errors: int
    server_errors: int


class Runtime:
    """The runtime socket of the newest HAProxy process."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def apply(self, actions: Sequence[Action]) -> None:
        """Take actions in their order; raises at the first one that HAProxy refuses."""
        pending: list[str] = []
        for action in actions:
            if isinstance(action, ReplaceMap):
                await self._tell(pending)
                pending = []
                await self._replace(action)
            else:
                pending += self._commands(action)
        await self._tell(pending)

    async def loaded(self) -> Loaded:
        """Return which table and which configuration are in force."""
        info = _pairs(await self._ask("show info"))
        version = (await self.map(LOADED)).get("version", "0")
        return Loaded(int(version), info.get("description", ""), int(info.get("Pid", "0")))

    async def map(self, name: str) -> dict[str, str]:
        """Return the entries of a map as HAProxy has them."""
        answer = await self._ask(f"show map {self._layout.map_file(name)}")
        if answer.startswith("Unknown map"):
            raise HaproxyFailed(f"HAProxy has no map {name}.")
        entries = (line.split(" ", 2) for line in answer.splitlines() if line)
        return {key: value for _, key, value in entries}

    async def slots(self, pool: str) -> Slots:
        """Return the pods in the slots of a pool as HAProxy has them."""
        header, *rows = (await self._ask(f"show servers state {pool}")).splitlines()[1:]
        columns = header.removeprefix("# ").split()
        found = [dict(zip(columns, row.split(), strict=False)) for row in rows if row]
        return tuple(_endpoint(server) for server in found)

    async def counters(self) -> list[Counters]:
        """Return the requests counted for each revision since HAProxy last started or reloaded."""
        lines = (await self._ask("show table revisions_used")).splitlines()
        return [_counters(line) for line in lines if " key=" in line]

    def _commands(self, action: AddEntry | SetEntry | DeleteEntry | SetServer) -> list[str]:
        if isinstance(action, SetServer):
            return _server_commands(action)
        file = self._layout.map_file(action.map)
        match action:
            case AddEntry():
                return [f"add map {file} {action.key} {action.value}"]
            case SetEntry():
                return [f"set map {file} {action.key} {action.value}"]
            case DeleteEntry():
                return [f"del map {file} {action.key}"]

    async def _replace(self, action: ReplaceMap) -> None:
        file = self._layout.map_file(action.map)
        answer = await self._ask(f"prepare map {file}")
        version = answer.strip().rpartition(" ")[2]
        if not version.isdigit():
            raise HaproxyFailed(f"HAProxy gave no new version of map {action.map}: {answer.strip()}")
        await self._tell([f"add map @{version} {file} {key} {value}" for key, value in action.entries])
        await self._tell([f"commit map @{version} {file}"])

    async def _tell(self, commands: Sequence[str]) -> None:
        """Send commands that answer nothing when they succeed."""
        for batch in _batches(commands):
            answer = (await self._ask("; ".join(batch))).strip()
            complaints = [line for line in answer.splitlines() if line and not _is_progress(line)]
            if complaints:
                raise HaproxyFailed(f"HAProxy refused a change: {'; '.join(complaints)}")

    async def _ask(self, command: str) -> str:
        return await ask(self._layout.runtime_socket, command)


async def ask(socket: Path, command: str) -> str:
    """Send one line to a HAProxy socket and return all that it answers."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(f"{command}\n".encode())
                # The master process keeps a connection open until the other side has said that nothing follows.
                writer.write_eof()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise HaproxyFailed(f"HAProxy does not answer on {socket}: {str(error) or 'timeout'}") from error


def _server_commands(action: SetServer) -> list[str]:
    server = f"set server {action.pool}/{server_name(action.position)}"
    out = f"{server} state maint"
    if action.endpoint is None:
        return [out]
    address = f"{server} addr {action.endpoint.address} port {action.endpoint.port}"
    # Out of rotation while the address changes. Its health is that of the pod that stood here before.
    return [out, address, f"{server} health up", f"{server} state ready"]


def _is_progress(line: str) -> bool:
    """Tell the remarks that `set server` makes about a success from refusals."""
    return line.startswith(("IP changed from", "no need to change the addr", "port changed from"))


def _batches(commands: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    size = _BATCH_BYTES
    for command in commands:
        size += len(command) + 2
        if size > _BATCH_BYTES:
            batches.append([])
            size = len(command)
        batches[-1].append(command)
    return batches


def _pairs(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _endpoint(server: dict[str, str]) -> Endpoint | None:
    if int(server["srv_admin_state"]) & _ADMIN_MAINTENANCE:
        return None
    return Endpoint(server["srv_addr"], int(server["srv_port"]))


def _counters(line: str) -> Counters:
    words = dict(word.partition("=")[::2] for word in line.split())
    revision, _, route = words["key"].rpartition("/")
    return Counters(
        revision=revision,
        route=route,
        requests=int(words["http_req_cnt"]),
        client_errors=int(words["http_err_cnt"]),
        server_errors=int(words["http_fail_cnt"]),
    )
