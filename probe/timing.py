"""How long silence must last before it is called silence, and how often it is asked. Pure arithmetic, seconds.

RFC 6298's estimator over the controls' round trips, as nmap does it: T = clamp(srtt + 4 rttvar, 250 ms, 1 s). Without
an answer T is 1 s. Each address is tried a few times, overlapped, with the earlier sockets kept open, in all
m = ceil(ln(alpha/N) / ln(q)) times, where q is an upper bound of the share of answered targets that a first try missed.
A lost answer is then called silence for one of N targets with probability alpha at most, unless the operator's bound on
tries comes first.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

SHORTEST = 0.25
LONGEST = 1.0
BANNER = 0.3  # how long a server that speaks first is given

FEWEST_TRIES = 2
MOST_TRIES = 3  # unless the operator says otherwise
_ALPHA = 0.01
# A few answers say little about loss: not more than this is believed of q, in either direction.
_WORST_Q = 0.5

# The kernel sends a SYN again after one second. A silent socket that was kept open for that long and SHORTEST more has
# heard an answer to it, and its TCP_INFO says whether the second SYN left this host.
HOLD = 1.0 + SHORTEST


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

# For one address tried alone, at the end of a run. 1.8 s: the firewall's drops are then told from a full queue's, which
# the kernel tries again after half a second (TCP_RESOURCE_PROBING_INTERVAL) and not after one.
ALONE = Deadlines(answer=1.3, spacing=0.5, tries=2)


# --- how much is done ---

SAMPLES = 8  # further connects to each control that answered, to know the network's delay and loss
MOST_RETRIES = 6  # lone ones where a router rejects, per IP version and transport
MOST_WALKS = 24  # destinations that are walked to, per IP version
WALK_PACKETS = 132  # SYNs of one walk, at most: 30 hops, as traceroute(8), there and back
MOST_COMPARED = 64  # refusals that are only compared with those, per IP version
COMPARE_PACKETS = 12
MOST_SECOND_LOOKS = 200  # destinations of which the kernel says that nothing left this host


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


def missed_share(samples: int, missed: int) -> float:
    """An upper bound (95 %) of the share of first tries that get no answer: Poisson's, 3/n where none was missed."""
    if samples == 0:
        return 1.0
    return min((missed + 1.645 * math.sqrt(missed + 1) + 1.355) / samples, 1.0)


def tries_for(targets: int, samples: int, missed: int, most: int) -> int:
    """How often each of `targets` is tried. Without an answer nothing is believed of silence anyway: the fewest."""
    if samples == 0:
        return min(FEWEST_TRIES, most)
    q = min(missed_share(samples, missed), _WORST_Q)
    wanted = math.ceil(math.log(_ALPHA / max(targets, 1)) / math.log(q))
    return min(max(wanted, FEWEST_TRIES), most)


def deadlines(answer: float, tries: int, hold: float = HOLD) -> Deadlines:
    """Tries spread out, so that the second one does not share a burst of loss with the first."""
    return Deadlines(answer, max(answer / 2, (hold - answer) / max(tries, 1)), tries, hold)


def lost_answer(used: Deadlines, samples: int, missed: int) -> float | None:
    """The probability, at most, that one silent destination did answer and every answer was lost. None: not known."""
    if samples == 0:
        return None
    # The kernel's own retransmission is one more try, where there was time to hear its answer.
    sent = used.tries + (1 if used.total >= _SYN_AGAIN[0] + used.answer else 0)
    return missed_share(samples, missed) ** sent
