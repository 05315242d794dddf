"""What a target says of its launcher."""

import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """`words`: what stands before the agent's own. `through_shell`: a shell on the far side reads them, joined.

    `cleanup`: a command that ends what would outlive the launcher.
    """

    words: tuple[str, ...]
    through_shell: bool = False
    cleanup: tuple[str, ...] = ()

    def command(self, agent: Sequence[str]) -> tuple[str, ...]:
        """The whole command line for the agent's own words."""
        return (*self.words, *(map(shlex.quote, agent) if self.through_shell else agent))


def new_container(engine: str, image: str, options: Sequence[str]) -> Launch:
    """A container of an image that is here already, with a name by which it can be ended if its agent never runs."""
    name = f"egress-probe-{secrets.token_hex(6)}"
    words = (engine, "run", "-i", "--rm", "--pull", "never", "--name", name, *options, image)
    return Launch(words, cleanup=(engine, "rm", "-f", name))
