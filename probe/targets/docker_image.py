"""`docker-image:IMAGE`: a new container of an image that is here already; nothing is pulled. It is gone afterwards.

The image's entry point stays: it may set up what is to be tested. `-- --entrypoint ''` takes it away.
"""

from collections.abc import Sequence

from probe.targets.base import Launch, new_container

PLACE = "IMAGE"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `docker run`, as `--network none`."""
    return new_container("docker", place, options)
