"""Plan → Orders: what the inside is told. No expectation, no policy, no key; only nonces, deadlines and the latch."""

import base64
import hashlib
from dataclasses import replace

from probe.documents import ORDERS_SCHEMA, Check, Order, Orders, Plan
from probe.tokens import AGAIN, token

# Seconds beyond its own budget that an agent is given.
GRACE = 15.0

# RFC 1035 2.3.4: octets of a label, and of a name as it is written (255 on the wire).
_LONGEST_LABEL = 63
_LONGEST_NAME = 253


def make_orders(plan: Plan, key: bytes, forbid_netns: str | None) -> Orders:
    """One order per check that is attempted. `{token}` in names becomes the check's own nonce."""
    return Orders(
        schema=ORDERS_SCHEMA,
        run_id=plan.run_id,
        settings=plan.settings,
        packets=plan.budget.packets,
        orders=tuple(_order(check, token(plan.run_id, check.n, key)) for check in plan.checks if check.skip is None),
        forbid_netns=forbid_netns,
        seconds=plan.budget.seconds + GRACE,
    )


def _order(check: Check, nonce: str) -> Order:
    host = check.destination.host
    return Order(
        n=check.n,
        technique=check.technique,
        destination=replace(check.destination, host=host and host.replace("{token}", nonce)),
        token=nonce,
        query=check.query and replace(check.query, name=_name(check.query.name, nonce)),
        http=check.http,
        self_test=check.self_test,
        early=check.early,
        repeat=check.repeat,
        first=check.first,
        lone=check.lone,
    )


def _name(template: str, nonce: str) -> str:
    """`{token}` becomes the nonce, `{chunks}` as many labels of full length as a name may have before it.

    As real exfiltration sends its data, but these are digests of the nonce, and nothing else.
    """
    name = template.replace("{token}", nonce)
    if "{chunks}" not in name:
        return name
    room = (_LONGEST_NAME - len(AGAIN) - len(name.replace("{chunks}.", ""))) // (_LONGEST_LABEL + 1)
    return name.replace("{chunks}", ".".join(_chunk(nonce, place) for place in range(max(room, 1))))


def _chunk(nonce: str, place: int) -> str:
    digest = hashlib.sha512(f"{nonce}/{place}".encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_LONGEST_LABEL]
