"""The routing table: the one document that tells a router who may call, and which revision answers.

The operator writes it into a ConfigMap under `table.json`; the agent turns it into HAProxy configuration. Keys
are camelCase. Every name is bounded to characters that cannot end a word of that configuration, and unknown
keys are refused: a table that is not fully understood is not used at all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from fettle_router.errors import InvalidTable

__all__ = [
    "ANONYMOUS",
    "MAIN",
    "SLOTS",
    "Access",
    "Arm",
    "Bounds",
    "Candidate",
    "Client",
    "Limits",
    "Pool",
    "Revision",
    "Sticky",
    "Table",
    "parse",
]

SLOTS: Final = 10_000
"""Both hashes place a request on one of this many slots, 0 to 9999."""

ANONYMOUS: Final = "anonymous"
"""Who calls an endpoint that asks for no key."""

MAIN: Final = "main"
"""The arm that is left when the static variants have taken their slots; only this one can have a candidate."""

_RESERVED_HEADERS: Final = frozenset({"authorization", "connection", "content-length", "cookie", "host"})

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]
ClientName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Salt = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=2_000_000_000)]


class _Section(BaseModel):
    """What every section of the table has in common."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, strict=True
    )


class Bounds(_Section):
    """A range of slots, both ends included."""

    first: int = Field(ge=0, lt=SLOTS)
    last: int = Field(ge=0, lt=SLOTS)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) is above last ({self.last})")
        return self


class Pool(_Section):
    """Model-server pods behind one Service; the agent follows its EndpointSlices."""

    name: PoolName
    service: Label
    port: int = Field(default=8000, ge=1, le=65535)
    """Port of the pods, used where an EndpointSlice names none."""


class Revision(_Section):
    """An immutable thing that can answer: a base, an adapter and its settings."""

    name: Label
    pool: PoolName
    adapter: Digest | None = None
    """Digest of the adapter, shown in `/v1/models`; none for the base model itself."""
    ready: bool = True
    """Whether the pool has it loaded. A pin to a revision that is not ready is answered with 503."""


class Candidate(_Section):
    """The revision that a rollout is trying out inside the main arm."""

    revision: Label
    below: int = Field(ge=0, le=SLOTS)
    """Slots 0 to below-1 go to the candidate: it sits at the low end, so raising it moves nobody back."""


class Arm(_Section):
    """A share of all traffic: the main arm, or one static variant beside it."""

    name: Label
    bounds: Bounds | None
    """Slots of the first hash; none is weight 0, where only a pin leads."""
    revision: Label
    candidate: Candidate | None = None


class Limits(_Section):
    """What one client may use; none means no limit. Each router replica counts requests for itself, and tokens for all."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    """Of prompts and answers; known only as they are made, so it is the next request that is refused."""
    concurrency: Count | None = None


class Client(_Section):
    """A caller with its keys: SHA-256 of the key in hex; two may be live, so that a key can be replaced."""

    name: ClientName
    key_hashes: tuple[Sha256, ...] = Field(strict=False, min_length=1, max_length=2)
    limits: Limits | None = None
    """Instead of the table's limits, as a whole."""


class Access(_Section):
    """Who may call. An open endpoint has to be asked for; no clients means that nobody may."""

    mode: Literal["keys", "open"] = "keys"
    clients: tuple[Client, ...] = Field(default=(), strict=False, max_length=4096)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "open" and self.clients:
            raise ValueError("clients cannot be listed when mode is open")
        _refuse_twice("client", (client.name for client in self.clients))
        _refuse_twice("key hash", (key for client in self.clients for key in client.key_hashes))
        return self


class Sticky(_Section):
    """What keeps a caller on one revision: this header, else x-session-id, else the client, else chance."""

    header: HeaderName | None = None
    by_client: bool = True
    """Without it a call that carries no sticky header is placed by chance, even with a known client."""

    @model_validator(mode="after")
    def _header_is_free(self) -> Self:
        if self.header and (self.header in _RESERVED_HEADERS or self.header.startswith("x-fettle-")):
            raise ValueError(f"header {self.header} is reserved; choose a header of the application's own")
        return self


class Table(_Section):
    """The whole document."""

    format: Literal[1] = 1
    version: int = Field(ge=1)
    """Rises with every change; the router reports the one that HAProxy has loaded."""
    deployment: Label
    variant_salt: Salt
    """Salts the hash that picks an arm; stays for the life of the deployment."""
    rollout_salt: Salt
    """Salts the hash that picks the candidate; new for every rollout, or the same callers meet every canary."""
    models: tuple[ModelName, ...] = Field(strict=False, min_length=1, max_length=16)
    """Names that a client may give as `model`; the first is the one that is shown."""
    pools: tuple[Pool, ...] = Field(strict=False, min_length=1, max_length=16)
    revisions: tuple[Revision, ...] = Field(strict=False, min_length=1, max_length=64)
    arms: tuple[Arm, ...] = Field(strict=False, min_length=1, max_length=32)
    pins: dict[Label, Label] = Field(default_factory=dict, max_length=128)
    """Names that a request can ask for, each with the revision it stands for."""
    access: Access
    limits: Limits = Field(default_factory=Limits)
    sticky: Sticky = Field(default_factory=Sticky)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_twice("model", self.models)
        _refuse_twice("pool", (pool.name for pool in self.pools))
        _refuse_twice("revision", (revision.name for revision in self.revisions))
        _refuse_twice("arm", (arm.name for arm in self.arms))
        _refuse_unknown("pool", {pool.name for pool in self.pools}, _pool_references(self.revisions))
        _refuse_unknown("revision", {revision.name for revision in self.revisions}, _references(self))
        _check_candidates(self.arms)
        _check_coverage(self.arms)
        return self

    @property
    def main(self) -> Arm:
        """The arm of the rollout."""
        return next(arm for arm in self.arms if arm.name == MAIN)

    def limits_of(self, client: Client) -> Limits:
        """Return the limits that hold for a client."""
        return self.limits if client.limits is None else client.limits

    @property
    def limits_by_caller(self) -> dict[str, Limits]:
        """What holds for everybody who can call."""
        if self.access.mode == "open":
            return {ANONYMOUS: self.limits}
        return {client.name: self.limits_of(client) for client in self.access.clients}


def parse(text: str) -> Table:
    """Read a routing table, or say everything that is wrong with it and where."""
    try:
        return Table.model_validate_json(text)
    except ValidationError as error:
        raise InvalidTable("\n".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(str(part) for part in problem['loc']) or 'the table'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{what} {twice[0]} is listed twice")


def _refuse_unknown(what: str, known: set[str], references: Iterable[tuple[str, str]]) -> None:
    for where, name in references:
        if name not in known:
            raise ValueError(f"{where}: no {what} is called {name}")


def _pool_references(revisions: Iterable[Revision]) -> Iterator[tuple[str, str]]:
    for revision in revisions:
        yield f"revisions[{revision.name}].pool", revision.pool


def _references(table: Table) -> Iterator[tuple[str, str]]:
    for arm in table.arms:
        yield f"arms[{arm.name}].revision", arm.revision
        if arm.candidate:
            yield f"arms[{arm.name}].candidate.revision", arm.candidate.revision
    for pin, revision in table.pins.items():
        yield f"pins[{pin}]", revision


def _check_candidates(arms: tuple[Arm, ...]) -> None:
    if all(arm.name != MAIN for arm in arms):
        raise ValueError(f"arms: one must be called {MAIN}")
    for arm in arms:
        if arm.candidate is None:
            continue
        if arm.name != MAIN:
            raise ValueError(f"arms[{arm.name}].candidate: only the arm {MAIN} can have a candidate")
        if arm.candidate.revision == arm.revision:
            raise ValueError(f"arms[{arm.name}].candidate: {arm.revision} is already the stable revision")


def _check_coverage(arms: tuple[Arm, ...]) -> None:
    expected = 0
    for bounds in sorted((arm.bounds for arm in arms if arm.bounds), key=lambda bounds: bounds.first):
        if bounds.first != expected:
            problem = "belong to no arm" if bounds.first > expected else "belong to two arms"
            low, high = sorted((expected, bounds.first))
            raise ValueError(f"arms: slots {low} to {high - 1} {problem}")
        expected = bounds.last + 1
    if expected != SLOTS:
        raise ValueError(f"arms: slots {expected} to {SLOTS - 1} belong to no arm")
