"""The errno that the kernel's sockets give for an ICMP error: a raw socket gives none. A pure table.

Sources: icmp_err_convert in net/ipv4/icmp.c; tab_unreach and icmpv6_err_convert in net/ipv6/icmp.c.
"""

import errno

from probe.documents import Icmp

# (IP version, code) of an unreachable; any other code is EHOSTUNREACH.
_UNREACHABLE = {
    (4, 0): errno.ENETUNREACH,
    (4, 2): errno.ENOPROTOOPT,
    (4, 3): errno.ECONNREFUSED,
    (4, 4): errno.EMSGSIZE,
    (4, 5): errno.EOPNOTSUPP,
    (4, 6): errno.ENETUNREACH,
    (4, 7): errno.EHOSTDOWN,
    (4, 8): errno.ENONET,
    (4, 9): errno.ENETUNREACH,
    (4, 11): errno.ENETUNREACH,
    (6, 0): errno.ENETUNREACH,
    (6, 1): errno.EACCES,
    (6, 4): errno.ECONNREFUSED,
    (6, 5): errno.EACCES,
    (6, 6): errno.EACCES,
}
# (IP version, type) of other errors: too big, and a problem with a parameter. Time exceeded is EHOSTUNREACH.
_OTHER = {(6, 2): errno.EMSGSIZE, (4, 12): errno.EPROTO, (6, 4): errno.EPROTO}


def error_of(family: int, icmp: Icmp) -> str:
    """The errno's name for an ICMP error of IP version `family`."""
    if (family, icmp.type) in ((4, 3), (6, 1)):
        number = _UNREACHABLE.get((family, icmp.code), errno.EHOSTUNREACH)
    else:
        number = _OTHER.get((family, icmp.type), errno.EHOSTUNREACH)
    return errno.errorcode[number]
