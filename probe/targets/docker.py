"""`docker:CONTAINER`: inside a container that runs. Never with a terminal, which would change the bytes.

Ending `docker exec` ends the client only; the agent ends itself at its deadline.
"""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = "CONTAINER"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `docker exec`, as `--user 1000`."""
    return Launch(("docker", "exec", "-i", *options, place))
