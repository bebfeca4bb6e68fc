"""Errors as conditions: what a person reads when a pass could not be finished."""

from collections.abc import Iterable

from fettle_operator.conditions import READY, RECONCILING, STALLED, Condition
from fettle_operator.errors import Conflict, FettleError, Forbidden, NameConflict, Refused, Unavailable
from fettle_operator.reasons import Reason

__all__ = ["PATIENCE", "is_passing", "reason_of", "with_problem"]

PATIENCE = 3
"""Failures in a row before a passing trouble (a conflict, a server that is away) is worth a status write."""

_REASONS: tuple[tuple[type[FettleError], Reason], ...] = (
    (NameConflict, Reason.NAME_CONFLICT),
    (Forbidden, Reason.FORBIDDEN),
    (Unavailable, Reason.API_UNAVAILABLE),
    (Conflict, Reason.API_CONFLICT),
    (Refused, Reason.REQUEST_REFUSED),
)
_QUOTA = "exceeded quota"


def reason_of(error: Exception) -> Reason:
    """Return the word for an error; one that is not of the domain is a bug of ours."""
    if isinstance(error, Forbidden) and _QUOTA in str(error):
        return Reason.QUOTA_EXCEEDED
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return Reason.INTERNAL_ERROR


def is_passing(error: Exception) -> bool:
    """Tell whether the error usually cures itself before anybody would read about it."""
    return isinstance(error, Unavailable | Conflict)


def with_problem(known: Iterable[Condition], error: Exception) -> tuple[Condition, ...]:
    """Return the conditions with the problem shown.

    What was Ready stays Ready: that the operator cannot look at an object does not make the object bad.
    """
    reason, message = reason_of(error), _message(error)
    kept = {condition.type: condition for condition in known if condition.type not in {RECONCILING, STALLED}}
    ready = kept.get(READY)
    if ready is None or ready.status != "True":
        kept[READY] = Condition(READY, "False", reason, message)
    kept[RECONCILING] = Condition(RECONCILING, "True", reason, message)
    return tuple(kept.values())


def _message(error: Exception) -> str:
    if isinstance(error, FettleError):
        return str(error)
    return f"an unexpected error in the operator ({type(error).__name__}); its log has the details"
