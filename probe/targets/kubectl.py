"""`kubectl:NAMESPACE/POD[/CONTAINER]`: inside a pod that runs. Ending kubectl ends the client only."""

from collections.abc import Sequence

from probe.errors import UserError
from probe.targets.base import Launch

PLACE = "NAMESPACE/POD[/CONTAINER]"


def launch(place: str, options: Sequence[str]) -> Launch:
    """`options` go to `kubectl exec`, as `--context NAME`."""
    words = place.split("/")
    if not 2 <= len(words) <= 3 or not all(words) or any(word.startswith("-") for word in words):
        raise UserError(f"--via kubectl:{place}: expected kubectl:{PLACE}")
    namespace, pod, *container = words
    inside = ("-c", *container) if container else ()
    return Launch(("kubectl", "exec", "-i", *options, "-n", namespace, pod, *inside, "--"))
