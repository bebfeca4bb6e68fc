"""What a user may say about the pods of an object. Image, command and node pools belong to the profile."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import Rule, Takes, keys_match
from fettle_operator.api.scalars import CpuQuantity, Label, Seconds, SizeQuantity, quantity_value

__all__ = [
    "NODE_LABEL_KEYS",
    "NodeSelector",
    "ProfileName",
    "ResourceAmounts",
    "Resources",
    "Toleration",
    "Tolerations",
]

ProfileName = Label
_LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"

LabelValue = Annotated[
    str,
    Field(max_length=63, pattern=_LABEL_VALUE),
    Takes("the value of a label: letters, digits, '-', '_' and '.'"),
]
TaintKey = Annotated[
    str, Field(max_length=317, pattern=_LABEL_KEY), Takes("the key of a taint, such as nvidia.com/gpu")
]


class ResourceAmounts(KubeModel):
    """Amounts of what a node has to give. GPUs are counted by the profile."""

    cpu: CpuQuantity | None = Field(default=None, description="Processor cores, such as 2, 1.5 or 500m.")
    memory: SizeQuantity | None = Field(default=None, description="Memory, such as 8Gi.")
    ephemeral_storage: SizeQuantity | None = Field(
        default=None, alias="ephemeral-storage", description="Scratch space on the node, such as 20Gi."
    )


def _within_limits(resources: "Resources") -> bool:
    if resources.requests is None or resources.limits is None:
        return True
    pairs = (
        (getattr(resources.requests, name), getattr(resources.limits, name))
        for name in ResourceAmounts.model_fields
    )
    return all(
        request is None or limit is None or quantity_value(request) <= quantity_value(limit)
        for request, limit in pairs
    )


def _within_limits_expression() -> str:
    # A malformed quantity is refused by its pattern; without the guard the comparison would complain as well.
    fits = (
        f"!has(self.requests.{name}) || !isQuantity(string(self.requests.{name})) || "
        f"!has(self.limits.{name}) || !isQuantity(string(self.limits.{name})) || "
        f"quantity(string(self.requests.{name})).compareTo(quantity(string(self.limits.{name}))) <= 0"
        for name in ("cpu", "memory", "ephemeral__dash__storage")
    )
    return "!has(self.requests) || !has(self.limits) || " + " && ".join(f"({fit})" for fit in fits)


class Resources(KubeModel):
    """What each pod asks for and may use, over what the profile gives."""

    rules = (
        Rule(
            expression=_within_limits_expression(),
            message="requests must not exceed limits",
            holds=_within_limits,
            field="requests",
        ),
    )

    requests: ResourceAmounts | None = Field(
        default=None, description="What the scheduler sets aside for each pod."
    )
    limits: ResourceAmounts | None = Field(default=None, description="What each pod may use at most.")


class Toleration(KubeModel):
    """A taint that the pods may stand. It always names a key: standing every taint is for the cluster's own pods."""

    rules = (
        Rule(
            expression="self.operator != 'Exists' || !has(self.value)",
            message="value has no meaning with operator Exists; remove it",
            holds=lambda self: self.operator != "Exists" or self.value is None,
            field="value",
        ),
        Rule(
            expression="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            message="tolerationSeconds needs effect NoExecute",
            holds=lambda self: self.toleration_seconds is None or self.effect == "NoExecute",
            field="tolerationSeconds",
        ),
    )

    key: TaintKey = Field(description="The taint's key.")
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="Equal: key and value match. Exists: the key is enough."
    )
    value: LabelValue | None = Field(default=None, description="The taint's value; left out means empty.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect; left out means every effect."
    )
    toleration_seconds: Seconds | None = Field(
        default=None, description="How long a NoExecute taint is stood; left out means for ever."
    )


Tolerations = Annotated[list[Toleration], Field(max_length=16)]
NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=16)]
NODE_LABEL_KEYS = keys_match(
    "nodeSelector", "node_selector", _LABEL_KEY, 317, "a label key, such as kubernetes.io/arch"
)
"""The rule that belongs to every object with a nodeSelector."""
