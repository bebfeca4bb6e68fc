"""What can be wrong before the server serves, told to whoever starts it."""

__all__ = ["InvalidSettings"]


class InvalidSettings(Exception):
    """A flag, a variable or a file that the process was started with is wrong."""
