"""`podman:CONTAINER`: inside a container that runs. As docker.py: ending the client does not end the agent."""

from collections.abc import Sequence

from probe.targets.base import Launch

PLACE = "CONTAINER"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `podman exec`."""
    return Launch(("podman", "exec", "-i", *options, place))
