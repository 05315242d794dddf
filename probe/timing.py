"""How long silence must last before it is called silence. Pure arithmetic, seconds.

RFC 6298's estimator over the answered early attempts, as nmap does it: T = clamp(srtt + 4·rttvar, 250 ms, 1 s). Without
an answer T is 1 s. Each address is tried a few times, overlapped, with the earlier sockets kept open.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST = 0.25
LONGEST = 1.0
BANNER = 0.3  # how long a server that speaks first is given


@dataclass(frozen=True, slots=True)
class Deadlines:
    """`answer`: what one try is given. `spacing`: from one try to the next. `hold`: silence lasts at least so long."""

    answer: float
    spacing: float
    tries: int
    hold: float = 0.0

    @property
    def total(self) -> float:
        """From the first try to "silent"."""
        return max((self.tries - 1) * self.spacing + self.answer, self.hold)


# When Linux sends a SYN again (tcp_syn_linear_timeouts=4, since 6.5), in seconds after the first.
_SYN_AGAIN = (1, 2, 3, 4, 5, 7, 11, 19, 35, 67)


def syn_retransmissions(seconds: float) -> int:
    """How often the kernel sends a SYN again on a socket that is kept open for `seconds`."""
    return sum(again <= seconds for again in _SYN_AGAIN)


# Between two lone tries: RFC 1812 4.3.2.8 and Linux's icmp_ratelimit give one ICMP error per second and destination.
LONE_GAP = 1.1

# For one address tried alone, at the end of a run.
ALONE = Deadlines(answer=1.5, spacing=0.5, tries=2)


def estimate(samples: Iterable[float]) -> float:
    """The deadline for one try, from round trips in the order in which they were seen."""
    smoothed: float | None = None
    variation = 0.0
    for sample in samples:
        if smoothed is None:
            smoothed, variation = sample, sample / 2
        else:
            variation += (abs(smoothed - sample) - variation) / 4
            smoothed += (sample - smoothed) / 8
    if smoothed is None:
        return LONGEST
    return min(max(smoothed + 4 * variation, SHORTEST), LONGEST)


def deadlines(answer: float, tries: int) -> Deadlines:
    """Tries half a deadline apart, so that the second one does not share a burst of loss with the first."""
    return Deadlines(answer, answer / 2, tries)
