"""Why a condition holds or does not: a closed list of words, in their one home.

Words are stable: people and alerts match on them. The sentence beside them may change.
"""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """Every reason that a condition or an event of the operator can have."""

    # Adapter: the verdict
    VERIFIED = "Verified"
    ADAPTER_REFUSED = "AdapterRefused"
    """The files are not a sound adapter, or not the expected one."""
    VERIFICATION_EXHAUSTED = "VerificationExhausted"
    """Every attempt broke for a reason that was not the adapter's fault."""

    # Adapter: on the way to it
    VERIFYING = "Verifying"
    PATH_NOT_FOUND = "PathNotFound"
    """Nothing lies at the path yet; it is looked for again and again."""
    RETRYING = "Retrying"
    SOURCE_NOT_SUPPORTED = "SourceNotSupported"

    # Adapter: who needs it
    IN_USE = "InUse"
    NOT_IN_USE = "NotInUse"

    # FineTuneJob: on the way
    VALIDATING = "Validating"
    QUEUED = "Queued"
    """An attempt waits for its pods to run; more precise reasons are further below."""
    WAITING_FOR_QUEUE = "WaitingForQueue"
    RUNNING = "Running"
    EVALUATING = "Evaluating"
    RECORDING = "Recording"
    """The result is being verified as an Adapter."""
    STOPPING = "Stopping"
    """Processes of an earlier attempt still have to end."""
    SUSPENDED = "Suspended"
    PROFILE_NOT_FOUND = "ProfileNotFound"
    ADAPTER_NOT_READY = "AdapterNotReady"
    NOT_SUPPORTED = "NotSupported"

    # FineTuneJob: the end
    DATASET_VALID = "DatasetValid"
    SUCCEEDED = "Succeeded"
    DATASET_INVALID = "DatasetInvalid"
    INPUT_REFUSED = "InputRefused"
    """The trainer refused the settings, the model or an earlier adapter."""
    GATE_MISSED = "GateMissed"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    STORAGE_FULL = "StorageFull"
    """The store has no room; told while attempts follow each other, and at the end if it still has none."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"

    # What keeps a pod from running
    CLAIM_NOT_FOUND = "ClaimNotFound"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_NOT_CREATED = "ContainerNotCreated"
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POD_REFUSED = "PodRefused"
    OUT_OF_MEMORY = "OutOfMemory"

    # Any kind
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    FORBIDDEN = "Forbidden"
    API_UNAVAILABLE = "ApiUnavailable"
    API_CONFLICT = "ApiConflict"
    REQUEST_REFUSED = "RequestRefused"
    INTERNAL_ERROR = "InternalError"
    CONTROLLER_NOT_AVAILABLE = "ControllerNotAvailable"
