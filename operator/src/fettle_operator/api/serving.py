"""What an InferenceDeployment serves and to whom: adapters, runtime, access, route."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import ListSet, Rule, Takes, exactly_one_of
from fettle_operator.api.references import (
    AdapterRef,
    FineTuneJobRef,
    HuggingFaceSource,
    SecretRef,
    VolumeSource,
)
from fettle_operator.api.scalars import Digest, ObjectName, Port

__all__ = ["Access", "Autoscaling", "Route", "Runtime", "ServedAdapter", "Shadow", "Variant"]

VariantName = Annotated[
    str,
    Field(max_length=32, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Takes("a name of lower-case letters, digits and '-' that begins and ends with a letter or digit"),
]
HeaderName = Annotated[
    str,
    Field(max_length=64, pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"),
    Takes("the name of a header, of letters and digits with '-' between them"),
]
HostName = Annotated[
    str,
    Field(
        max_length=253, pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$"
    ),
    Takes("a host name in lower case, such as llm.example.com or *.example.com"),
]
_RESERVED_HEADERS = ("authorization", "host", "cookie", "connection", "content-length", "transfer-encoding")
_RESERVED_VARIANTS = ("main", "stable", "candidate", "shadow")


class ServedAdapter(KubeModel):
    """Where the adapter to serve comes from."""

    rules = (exactly_one_of("adapterRef", "fineTuneJobRef", "volume", "huggingFace"),)

    adapter_ref: AdapterRef | None = Field(default=None, description="An Adapter of this namespace.")
    fine_tune_job_ref: FineTuneJobRef | None = Field(
        default=None, description="A FineTuneJob of this namespace; its Adapter is served once it is Ready."
    )
    volume: VolumeSource | None = Field(
        default=None, description="A folder on a claim; verified before it is served."
    )
    hugging_face: HuggingFaceSource | None = Field(
        default=None, description="A repository on the hub; verified before it is served."
    )
    digest: Digest | None = Field(
        default=None, description="Pins the adapter: another digest is refused instead of served."
    )


class Variant(KubeModel):
    """A static arm beside the main one, for A/B tests."""

    rules = (
        Rule(
            expression=f"!(self.name in {list(_RESERVED_VARIANTS)})",
            message=f"name must not be {', '.join(_RESERVED_VARIANTS)}, which mean something else",
            holds=lambda self: self.name not in _RESERVED_VARIANTS,
            field="name",
        ),
    )

    name: VariantName = Field(description="Name of the variant, by which a request can ask for it.")
    weight: Annotated[int, Field(ge=0, le=100)] = Field(
        description="Percent of the traffic; 0 leaves it reachable by name only."
    )
    adapter: ServedAdapter | None = Field(
        default=None, description="The adapter of this arm. Left out: the base model itself."
    )


class Shadow(KubeModel):
    """An adapter that answers a copy of the traffic. Its answers are compared, never returned."""

    adapter: ServedAdapter = Field(description="The adapter that answers in the shadow.")
    percent: Annotated[int, Field(ge=1, le=100)] = Field(
        description="Percent of the requests that are copied."
    )


class Runtime(KubeModel):
    """How the model server runs. A change makes a new revision with a pool of its own."""

    rules = (
        Rule(
            expression="self.engine == 'vllm' || !has(self.gpuMemoryFraction)",
            message="gpuMemoryFraction needs engine vllm",
            holds=lambda self: self.engine == "vllm" or self.gpu_memory_fraction is None,
            field="gpuMemoryFraction",
        ),
        Rule(
            expression="self.engine == 'vllm' || !has(self.tensorParallel)",
            message="tensorParallel needs engine vllm",
            holds=lambda self: self.engine == "vllm" or self.tensor_parallel is None,
            field="tensorParallel",
        ),
        Rule(
            expression="!has(self.maxContext) || !has(self.maxNewTokens) || self.maxNewTokens <= self.maxContext",
            message="maxNewTokens must not exceed maxContext",
            holds=lambda self: (
                self.max_context is None
                or self.max_new_tokens is None
                or self.max_new_tokens <= self.max_context
            ),
            field="maxNewTokens",
        ),
    )

    engine: Literal["transformers", "vllm"] = Field(
        default="transformers",
        description="transformers runs everywhere, on CPU too; vllm is faster on GPUs.",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(
        default=None,
        description="Number format of the weights. Left out or auto: what the hardware does best.",
    )
    max_context: Annotated[int, Field(ge=16, le=2_097_152)] | None = Field(
        default=None, description="Longest request and answer together, in tokens. Left out: the model's own."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1_048_576)] | None = Field(
        default=None, description="Longest answer, in tokens, that a request may ask for."
    )
    max_adapters: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None, description="How many adapters one pod holds at a time."
    )
    max_lora_rank: Annotated[int, Field(ge=1, le=512)] | None = Field(
        default=None, description="Largest rank of an adapter. Left out: the largest one in use."
    )
    max_concurrent_requests: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Requests that one pod answers at a time."
    )
    max_queued_requests: Annotated[int, Field(ge=0, le=65_536)] | None = Field(
        default=None, description="Requests that wait in one pod; more are answered 429."
    )
    gpu_memory_fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of the GPU's memory that vLLM takes."
    )
    tensor_parallel: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None, description="GPUs of one pod over which vLLM spreads the model."
    )


class Autoscaling(KubeModel):
    """How many pods the main pool has, by its load."""

    rules = (
        Rule(
            expression="self.minReplicas <= self.maxReplicas",
            message="minReplicas must not exceed maxReplicas",
            holds=lambda self: self.min_replicas <= self.max_replicas,
            field="minReplicas",
        ),
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="The fewest pods.")
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="The most pods.")
    target_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Requests in flight for each pod that the number of pods aims at."
    )


class ApiKeys(KubeModel):
    """Who may ask."""

    secret_ref: SecretRef = Field(
        description="Secret whose entries are the keys, name to key. A removed entry is refused within seconds."
    )


class RateLimit(KubeModel):
    """How much one API key may ask; without keys, all clients together."""

    rules = (
        Rule(
            expression="has(self.requestsPerMinute) || has(self.tokensPerMinute) || has(self.concurrency)",
            message="set at least one of requestsPerMinute, tokensPerMinute and concurrency",
            holds=lambda self: (
                (self.requests_per_minute, self.tokens_per_minute, self.concurrency) != (None,) * 3
            ),
        ),
    )

    requests_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Requests in a minute."
    )
    tokens_per_minute: Annotated[int, Field(ge=1, le=2_000_000_000)] | None = Field(
        default=None, description="Tokens in a minute, known after the answer: the next request is refused."
    )
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Requests at the same time."
    )


class StickyBy(KubeModel):
    """What keeps a client on its arm."""

    rules = (
        Rule(
            expression=f"!(self.header.lowerAscii() in {list(_RESERVED_HEADERS)}) && "
            "!self.header.lowerAscii().startsWith('x-fettle-')",
            message=f"header must not be {', '.join(_RESERVED_HEADERS)} or begin with x-fettle-",
            holds=lambda self: (
                self.header.lower() not in _RESERVED_HEADERS
                and not self.header.lower().startswith("x-fettle-")
            ),
            field="header",
        ),
    )

    header: HeaderName = Field(description="Request header whose value picks the arm, such as x-session-id.")


class Access(KubeModel):
    """Who may ask, how much, and on which arm they stay."""

    api_keys: ApiKeys | None = Field(
        default=None, description="Who may ask. Left out: whoever reaches the service."
    )
    rate_limit: RateLimit | None = Field(default=None, description="How much one API key may ask.")
    sticky_by: StickyBy | None = Field(
        default=None, description="What keeps a client on its arm. Left out: x-session-id, then the API key."
    )


class ParentRef(KubeModel):
    """A Gateway of this namespace."""

    name: ObjectName = Field(description="Name of the Gateway.")
    section_name: ObjectName | None = Field(
        default=None, description="Name of the listener. Left out: all of them."
    )
    port: Port | None = Field(default=None, description="Port of the listener. Left out: all of them.")


class Route(KubeModel):
    """An HTTPRoute that the operator owns."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)] = Field(
        description="The Gateways that take the route."
    )
    hostnames: (
        Annotated[
            list[HostName],
            Field(min_length=1, max_length=16),
            ListSet(),
        ]
        | None
    ) = Field(default=None, description="Host names of the route. Left out: those of the listener.")
