"""Commands from people, which arrive as the annotation fettle.dev/command, and what remains of them."""

from typing import Annotated

from pydantic import Field

from fettle_operator.api.base import KubeModel, Timestamp

__all__ = ["HandledCommand"]


class HandledCommand(KubeModel):
    """The last command that was obeyed or refused."""

    text: Annotated[str, Field(max_length=128)] = Field(description="The command as it was given.")
    outcome: Annotated[str, Field(max_length=256)] = Field(description="What became of it.")
    handled_at: Timestamp = Field(description="When.")
