"""InferenceDeployment: an endpoint for a model and its adapters, and how it changes safely."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel, Resource, StatusModel, Timestamp
from fettle_operator.api.commands import HandledCommand
from fettle_operator.api.markers import Column, ListMap, ResourceInfo, Rule, Scale
from fettle_operator.api.pods import ProfileName, Resources
from fettle_operator.api.references import ModelSource
from fettle_operator.api.rollout import Strategy
from fettle_operator.api.scalars import Count, Digest, ShortText
from fettle_operator.api.serving import Access, Autoscaling, Route, Runtime, ServedAdapter, Shadow, Variant

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "AnalysisResult",
    "HistoryEntry",
    "InferenceDeployment",
    "InferenceDeploymentPhase",
    "InferenceDeploymentSpec",
    "InferenceDeploymentStatus",
    "StepProgress",
    "TrafficShare",
]

INFO = ResourceInfo(
    kind="InferenceDeployment",
    plural="inferencedeployments",
    singular="inferencedeployment",
    short_names=("infd",),
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Phase", ".status.phase"),
        Column("Stable", ".status.stableRevision"),
        Column("Candidate", ".status.candidateRevision"),
        Column("Step", ".status.step.summary"),
        Column("URL", ".status.url"),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("Replicas", ".status.readyReplicas", type="integer", wide=True),
        Column("Profile", ".spec.profile", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    ),
    scale=Scale(spec_path=".spec.replicas", status_path=".status.replicas", selector_path=".status.selector"),
)
GROUP, VERSION, PLURAL, KIND = INFO.group, INFO.version, INFO.plural, INFO.kind

InferenceDeploymentPhase = Literal["Pending", "Progressing", "Paused", "Healthy", "Degraded"]
RevisionName = Annotated[str, Field(max_length=63)]


class InferenceDeploymentSpec(KubeModel):
    """What is wanted: which model and adapters are served, to whom, and how they change."""

    rules = (
        Rule(
            expression="!has(self.variants) || self.variants.map(variant, variant.weight).sum() <= 100",
            message="the weights of variants must not add up to more than 100; the main arm takes what remains",
            holds=lambda self: sum(variant.weight for variant in self.variants or ()) <= 100,
            field="variants",
        ),
        Rule(
            expression="!has(self.autoscaling) || self.replicas == 1",
            message="replicas has no meaning with autoscaling, which decides the number; remove it",
            holds=lambda self: self.autoscaling is None or self.replicas == 1,
            field="replicas",
        ),
    )

    model: ModelSource = Field(
        description="The base model; with adapterRef the one that the Adapter was made for."
    )
    adapter: ServedAdapter | None = Field(
        default=None, description="The adapter of the main arm. Left out: the base model itself."
    )
    variants: Annotated[list[Variant], Field(max_length=8), ListMap("name")] | None = Field(
        default=None, description="Static arms beside the main one, which takes the remaining weight."
    )
    shadow: Shadow | None = Field(default=None, description="An adapter that answers a copy of the traffic.")
    runtime: Runtime = Field(default_factory=Runtime, description="How the model server runs.")
    profile: ProfileName = Field(
        default="cpu",
        description="Name of a profile of the administrator: image, hardware and place of the pods.",
    )
    resources: Resources | None = Field(
        default=None, description="What each pod asks for and may use, over what the profile gives."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="How many pods the main pool has. Leave it out when something else scales it."
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Scale the main pool by its load.")
    strategy: Strategy | None = Field(
        default=None, description="How to go from one revision to the next. Left out: replace."
    )
    access: Access | None = Field(
        default=None, description="Who may ask, how much, and on which arm they stay."
    )
    route: Route | None = Field(default=None, description="A Gateway API route to the endpoint.")
    paused: bool = Field(default=False, description="Hold the rollout where it is; traffic stays as it is.")
    revision_history_limit: Annotated[int, Field(ge=0, le=50)] = Field(
        default=10, description="How many revisions that are no longer served are remembered."
    )
    progress_deadline_seconds: Annotated[int, Field(ge=30, le=86_400)] = Field(
        default=600, description="How long a candidate may take to become ready before it is rolled back."
    )


class StepProgress(KubeModel):
    """Where the rollout stands."""

    index: Count = Field(description="The step, counted from 1; 0 before the first.")
    total: Count = Field(description="How many steps there are.")
    since: Timestamp | None = Field(default=None, description="When the step began.")
    summary: ShortText | None = Field(default=None, description="The step for people, such as 2/5 pause 60s.")


class TrafficShare(KubeModel):
    """One arm and what it gets."""

    revision: RevisionName = Field(description="Name of the revision.")
    variant: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Name of the variant; left out for the main arm."
    )
    role: Literal["stable", "candidate", "variant", "shadow"] = Field(description="What the arm is for.")
    weight: Annotated[float, Field(ge=0, le=100)] = Field(
        description="Percent of the traffic it is meant to get."
    )
    observed_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None, description="Percent it got lately."
    )
    ready: bool = Field(description="Whether every pod of its pool has it loaded.")
    adapter: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Name of its Adapter; left out for the base model."
    )


class AnalysisResult(KubeModel):
    """One metric of the analysis."""

    name: Annotated[str, Field(max_length=63)] = Field(description="Name of the metric.")
    phase: Literal["Pending", "Successful", "Failed", "Inconclusive", "Error"] = Field(
        description="How it stands."
    )
    value: float | None = Field(default=None, description="The candidate's last value.")
    stable_value: float | None = Field(default=None, description="The stable revision's, at the same time.")
    threshold: ShortText | None = Field(default=None, description="What it is held against.")
    samples: Count | None = Field(default=None, description="Requests behind the value.")
    failures: Count | None = Field(default=None, description="Failed measurements so far.")
    message: ShortText | None = Field(default=None, description="What it means.")


class HistoryEntry(KubeModel):
    """A revision and what became of it."""

    revision: RevisionName = Field(description="Name of the revision.")
    outcome: Literal["Promoted", "RolledBack", "Superseded"] = Field(description="What became of it.")
    adapter: Annotated[str, Field(max_length=253)] | None = Field(
        default=None, description="Name of its Adapter."
    )
    digest: Digest | None = Field(default=None, description="Digest of its adapter.")
    reason: Annotated[str, Field(max_length=256)] | None = Field(default=None, description="Why.")
    finished_at: Timestamp | None = Field(default=None, description="When.")


class InferenceDeploymentStatus(StatusModel):
    """What is served, and how the rollout stands."""

    phase: InferenceDeploymentPhase | None = Field(
        default=None, description="The state in a word, derived from conditions."
    )
    stable_revision: RevisionName | None = Field(
        default=None, description="The revision that is known to be good."
    )
    candidate_revision: RevisionName | None = Field(
        default=None, description="The revision that is being rolled out."
    )
    aborted_revision: RevisionName | None = Field(
        default=None, description="The revision that was rolled back; not tried again until the spec changes."
    )
    step: StepProgress | None = Field(default=None, description="Where the rollout stands.")
    url: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Address of the endpoint."
    )
    replicas: Count | None = Field(default=None, description="Pods of the main pool.")
    ready_replicas: Count | None = Field(default=None, description="Pods of the main pool that are ready.")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Label selector of the main pool's pods, for autoscalers."
    )
    traffic: Annotated[list[TrafficShare], Field(max_length=16)] = Field(
        default_factory=list, description="The arms and what they get."
    )
    analysis: Annotated[list[AnalysisResult], Field(max_length=16), ListMap("name")] = Field(
        default_factory=list, description="The metrics of the analysis."
    )
    history: Annotated[list[HistoryEntry], Field(max_length=50)] = Field(
        default_factory=list, description="Former revisions, the newest first."
    )
    last_command: HandledCommand | None = Field(default=None, description="The last command that was obeyed.")


class InferenceDeployment(Resource):
    """An endpoint that serves a model with its adapters and changes them step by step."""

    info: ClassVar[ResourceInfo] = INFO

    kind: Literal["InferenceDeployment"] = "InferenceDeployment"
    spec: InferenceDeploymentSpec = Field(description="What is wanted.")
    status: InferenceDeploymentStatus = Field(
        default_factory=InferenceDeploymentStatus, description="What is known. Written by the operator."
    )
