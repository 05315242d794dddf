"""`podman-image:IMAGE`: a new container of an image that is here already; nothing is pulled. It is gone afterwards."""

from collections.abc import Sequence

from probe.targets.base import Launch, new_container

PLACE = "IMAGE"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `podman run`, as `--network none`."""
    return new_container("podman", place, options)
