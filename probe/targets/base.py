"""What a target says of its launcher."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """`words`: what stands before the agent's own. `through_shell`: a shell on the far side reads them, joined."""

    words: tuple[str, ...]
    through_shell: bool = False

    def command(self, agent: Sequence[str]) -> tuple[str, ...]:
        """The whole command line for the agent's own words."""
        return (*self.words, *(map(shlex.quote, agent) if self.through_shell else agent))
