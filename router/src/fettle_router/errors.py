"""What can go wrong in the router agent, for people to read."""

__all__ = [
    "ApiUnavailable",
    "HaproxyFailed",
    "InvalidConfiguration",
    "InvalidTable",
    "RouterError",
]


class RouterError(Exception):
    """Anything that the agent itself reports; never a bug."""


class InvalidTable(RouterError):
    """The routing table cannot be used; the last good one stays in force."""


class InvalidConfiguration(RouterError):
    """The agent's own flags, or the HAProxy configuration made from a table, are wrong."""


class HaproxyFailed(RouterError):
    """HAProxy did not do what it was told, or does not answer."""


class ApiUnavailable(RouterError):
    """The API server cannot be read now; the agent goes on with what it knows and tries again."""
