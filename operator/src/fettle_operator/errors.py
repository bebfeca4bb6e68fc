"""What can go wrong, as types: the type of an error decides when the next pass comes.

`cluster` translates the API server's answers into these; the loop alone turns them into a pause and a
condition. Texts are written for the person who reads them in `kubectl describe`.
"""

__all__ = [
    "AlreadyExists",
    "ClusterError",
    "Conflict",
    "FettleError",
    "Forbidden",
    "InvalidConfiguration",
    "NameConflict",
    "NotFound",
    "Refused",
    "Unavailable",
]


class FettleError(Exception):
    """Anything that Fettle itself reports; never a bug."""


class InvalidConfiguration(FettleError):
    """The operator's own configuration is wrong; it cannot start."""


class ClusterError(FettleError):
    """The API server did not do what was asked."""


class NotFound(ClusterError):
    """The object, or its namespace, does not exist (404, or another UID under the same name)."""


class Conflict(ClusterError):
    """Somebody else wrote first (409); look again and decide anew."""


class AlreadyExists(Conflict):
    """The name of an object to be created is taken."""


class Unavailable(ClusterError):
    """The API server cannot answer now: connection lost, timeout, 429 or 5xx."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """The server's own wish (Retry-After), in seconds."""


class Forbidden(ClusterError):
    """The operator lacks a permission, or an admission policy says no (401, 403)."""


class Refused(ClusterError):
    """The API server calls the request itself wrong (400, 413, 422); repeating it cannot help."""


class NameConflict(FettleError):
    """A child's name is taken by an object that belongs to somebody else; it stays untouched."""
