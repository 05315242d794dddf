"""`raw_syn`: one hand-made SYN, and every packet that answers it. Needs CAP_NET_RAW.

Two answers with different TTLs show an injected RST, which a connect() never tells from the destination's own. On
request the SYN is the one that defenders know from IronClaw's egress validation: DF clear, window 3. scapy builds and
reads the bytes; sockets of our own carry them, so nothing else is sent: no ARP and no neighbour discovery of scapy's.
The kernel, which knows no such connection, answers a SYN-ACK with an RST by itself.
"""

import errno
import logging
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Literal

import trio

from probe.documents import Attempt, Icmp, Order, RawAnswer, Traits
from probe.icmp_errno import error_of
from probe.model import Channel
from probe.sockets import FAMILY, os_error, sockaddr, version
from probe.techniques.base import NotRun, Probe
from probe.unconnected import same_address

TRAITS = Traits(
    channel=Channel.TCP,
    packets=1,
    sends=lambda check: "one hand-made SYN; needs CAP_NET_RAW",  # noqa: ARG005 - the same for every check
    carries=False,
)
# Listening goes on after the first answer: an injected RST comes before the destination's own answer.
_LINGER = 0.3
# A destination that floods must not hold the run, nor fill the evidence.
_MOST_ANSWERS = 32
_AT_ONCE = 256  # packets that are looked at before others get their turn
_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_HEADER = {4: 20, 6: 40}  # bytes, without options
_MOST = 65535
# What seccomp and cgroup filters make of connect().
_FILTERED = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
# scapy keeps caches and settings in these places of the XDG base directories; a probe writes nothing.
_WRITES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
_NOWHERE = os.devnull + "/none"


@dataclass(frozen=True, slots=True)
class Flow:
    """The addresses and ports of one SYN, as it was sent."""

    source: str
    destination: str
    sport: int
    dport: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return version(self.destination)


async def run(orders: Sequence[Order], probe: Probe) -> None:
    """Every order, a bounded number together."""
    problem = None
    try:
        if _may_open():
            await trio.to_thread.run_sync(load)  # once: it changes the environment while it imports
    except ImportError:
        problem = "scapy is not installed here"
    except OSError as error:  # it asks for the routes by netlink, which a filter may refuse
        problem = f"scapy cannot be used here ({os_error(error)})"

    async def each(order: Order, probe: Probe) -> list[Attempt] | NotRun:
        return await attempt(order, probe) if problem is None else NotRun(problem)

    await probe.each(orders, each)


def _may_open() -> bool:
    try:
        for sock in _open(4):
            sock.close()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


async def attempt(order: Order, probe: Probe) -> list[Attempt] | NotRun:
    """All addresses of one order."""
    try:
        for sock in _open(4):
            sock.close()
    except PermissionError as error:
        return NotRun(f"no raw socket here (CAP_NET_RAW: {os_error(error)})")
    except OSError:
        pass  # the attempt says it
    addresses, made = await probe.addresses(order)
    return [*made, *[await _one(order, address, probe) for address in addresses]]


def load() -> None:
    """Import the layers of scapy that are needed (0.4 s: not in the event loop). Nothing is written.

    Raises ImportError; OSError where netlink is refused.
    """
    before = {name: os.environ.get(name) for name in _WRITES}
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    os.environ.update(dict.fromkeys(_WRITES, _NOWHERE))
    try:
        import scapy.layers.inet
        import scapy.layers.inet6  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


async def _one(order: Order, address: str, probe: Probe) -> Attempt:
    port = order.destination.port or 0
    made = Attempt(probe.now(), 0.0, "raw", "silent", address=address, port=port, again=probe.again)
    stage: Literal["socket", "connect", "send"] = "socket"
    try:
        sender, listener = _open(version(address))
    except OSError as error:
        return replace(made, result="error", stage=stage, error=os_error(error))
    with sender, listener:
        if not await probe.pace.leave(1):
            return replace(made, result="error", stage=stage, error="budget")
        try:
            stage = "connect"
            source = _source(address)
            draw = random.Random()
            flow = Flow(source, address.partition("%")[0], draw.randrange(32768, 61000), port)
            made = replace(made, source=source)
            syn = build(
                flow, draw.randrange(1 << 32), draw.randrange(1, 1 << 16), SCAN if probe.scan_signature else PLAIN
            )
            begin = trio.current_time()
            made = replace(made, t=begin - probe.started)
            stage = "send"
            sender.sendto(syn, sockaddr(address, 0))
        except OSError as error:
            return replace(made, result="error", stage=stage, error=os_error(error))
        answers = await _listen(listener, flow, begin, probe.deadlines.total)
    return judged(replace(made, elapsed=answers[0].delay if answers else trio.current_time() - begin), answers)


def _open(family: int) -> tuple[socket.socket, socket.socket]:
    """What sends whole IP packets, and what hears them. PermissionError without CAP_NET_RAW; OSError.

    IPPROTO_RAW implies IP_HDRINCL (raw(7)). A packet socket hears answers before this host's own firewall can.
    """
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sender = socket.socket(FAMILY[family], socket.SOCK_RAW | flags, socket.IPPROTO_RAW)
    try:
        kind = socket.SOCK_DGRAM | flags
        return sender, socket.socket(socket.AF_PACKET, kind, socket.htons(_ETHERTYPE[family]))
    except OSError:
        sender.close()
        raise


def _source(address: str) -> str:
    """Our own address towards `address`: the checksum covers it. A UDP connect sends nothing. Raises OSError.

    Where connect() itself is filtered, scapy's copy of the routing table says it: the raw SYN is not stopped by that.
    """
    try:
        with socket.socket(FAMILY[version(address)], socket.SOCK_DGRAM) as sock:
            sock.connect(sockaddr(address, 9))
            return str(sock.getsockname()[0]).partition("%")[0]
    except OSError as error:
        found = _routed_source(address) if error.errno in _FILTERED else None
        if found is None:
            raise
        return found


def _routed_source(address: str) -> str | None:
    from scapy.config import conf

    bare = address.partition("%")[0]
    found = str((conf.route6 if version(address) == 6 else conf.route).route(bare)[1])
    return None if ip_address(found).is_unspecified else found


async def _listen(listener: socket.socket, flow: Flow, begin: float, total: float) -> list[RawAnswer]:
    """Everything that answers until the deadline, or shortly after the first answer."""
    answers: list[RawAnswer] = []
    with trio.move_on_at(begin + total) as scope:
        while True:
            await trio.lowlevel.wait_readable(listener)
            answer = _heard(listener, flow, begin)
            if answer is not None:
                answers.append(answer)
                scope.deadline = min(scope.deadline, trio.current_time() + _LINGER)
            if len(answers) >= _MOST_ANSWERS:
                return answers  # a flood: what it says, it has said
    # What has arrived is read before silence is said.
    while len(answers) < _MOST_ANSWERS and (late := _heard(listener, flow, begin)) is not None:
        answers.append(late)
    return answers


def _heard(listener: socket.socket, flow: Flow, begin: float) -> RawAnswer | None:
    """The next answer among the next packets that were received; None when there is none among them."""
    for _ in range(_AT_ONCE):
        try:
            data, place = listener.recvfrom(_MOST)
        except OSError:  # EAGAIN; ENETDOWN when an interface went away
            return None
        if place[2] == socket.PACKET_HOST and may_answer(flow, data):
            answer = parse(flow, data, trio.current_time() - begin)
            if answer is not None:
                return answer
    return None


# --- bytes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signature:
    """What a SYN looks like to a defender: its window, and IPv4's DF."""

    window: int
    dont_fragment: bool


PLAIN = Signature(64240, dont_fragment=True)  # as Linux sends it
SCAN = Signature(3, dont_fragment=False)  # as IronClaw's egress validation was seen to


def build(flow: Flow, sequence: int, ip_id: int, signature: Signature) -> bytes:
    """The SYN as an IP packet. `load` first."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    tcp = TCP(sport=flow.sport, dport=flow.dport, flags="S", seq=sequence, window=signature.window)
    if flow.version == 6:  # no IPID and no DF in version 6
        return bytes(IPv6(src=flow.source, dst=flow.destination) / tcp)
    return bytes(
        IP(src=flow.source, dst=flow.destination, id=ip_id, flags="DF" if signature.dont_fragment else 0) / tcp
    )


def may_answer(flow: Flow, data: bytes) -> bool:
    """A quick look at bytes before they are parsed: both ports are somewhere in an answer, an ICMP error included."""
    return flow.sport.to_bytes(2, "big") in data and flow.dport.to_bytes(2, "big") in data


def parse(flow: Flow, data: bytes, delay: float) -> RawAnswer | None:
    """The facts of a packet that answers the SYN; None for any other. Total over any bytes. `load` first."""
    from scapy.layers.inet import IP, TCP, TCPerror
    from scapy.layers.inet6 import IPv6

    if len(data) < _HEADER[flow.version] or data[0] >> 4 != flow.version:
        return None  # scapy bears any damage but an outer header that is cut short
    packet = IPv6(data) if flow.version == 6 else IP(data)
    if packet.src is None or packet.dst is None or not same_address(str(packet.dst), flow.source):
        return None
    ttl = int(packet.hlim if flow.version == 6 else packet.ttl)
    ip_id = None if flow.version == 6 else int(packet.id)
    source = str(ip_address(str(packet.src)))
    tcp, inner = packet.getlayer(TCP), packet.getlayer(TCPerror)
    if inner is not None:
        icmp = _icmp(flow, packet, source, ttl)
        return None if icmp is None else RawAnswer("icmp", source, ttl, delay, ip_id, icmp=icmp)
    if tcp is None or not same_address(source, flow.destination) or (tcp.sport, tcp.dport) != (flow.dport, flow.sport):
        return None
    flags = int(tcp.flags or 0)
    kind: Literal["syn-ack", "rst", "other"] = "other"
    if flags & _RST:
        kind = "rst"
    elif flags & _SYN and flags & _ACK:
        kind = "syn-ack"
    return RawAnswer(kind, source, ttl, delay, ip_id, int(tcp.window or 0))


def _icmp(flow: Flow, packet: object, source: str, ttl: int) -> Icmp | None:
    """The ICMP error around our own SYN; None where the SYN inside is another's."""
    from scapy.layers.inet import ICMP, IPerror, TCPerror
    from scapy.layers.inet6 import (
        ICMPv6DestUnreach,
        ICMPv6PacketTooBig,
        ICMPv6ParamProblem,
        ICMPv6TimeExceeded,
        IPerror6,
    )
    from scapy.packet import Packet

    assert isinstance(packet, Packet)
    outer = (ICMP, ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, ICMPv6ParamProblem)
    error = next((layer for kind in outer if (layer := packet.getlayer(kind)) is not None), None)
    sent, tcp = packet.getlayer(IPerror6 if flow.version == 6 else IPerror), packet.getlayer(TCPerror)
    if error is None or sent is None or tcp is None or sent.dst is None:
        return None
    if not same_address(str(sent.dst), flow.destination) or (tcp.sport, tcp.dport) != (flow.sport, flow.dport):
        return None
    return Icmp(int(error.type or 0), int(error.code or 0), source, ttl)


# --- facts ------------------------------------------------------------------------------------------------------------


def judged(made: Attempt, answers: Sequence[RawAnswer]) -> Attempt:
    """The attempt in the words of a connect: a SYN-ACK is an answer; an RST or an ICMP error is its errno."""
    made = replace(made, raw=tuple(answers))
    kinds = {answer.kind for answer in answers}
    if "syn-ack" in kinds:
        return replace(made, result="answered")
    if "rst" in kinds:
        return replace(made, result="error", stage="receive", error="ECONNREFUSED")
    icmp = next((answer.icmp for answer in answers if answer.icmp is not None), None)
    if icmp is None:
        return made
    error = error_of(version(made.address or ""), icmp)
    return replace(made, result="error", stage="receive", error=error, icmp=icmp)
