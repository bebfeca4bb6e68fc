"""The one exception that reaches the user, as a sentence and never as a traceback."""


class ImagesError(Exception):
    """Something the user can act on: the text says what is wrong, where, and what to do."""
