"""Plan → Orders: what the inside is told. No expectation, no policy, no key; only nonces, deadlines and the latch."""

from dataclasses import replace

from probe.documents import ORDERS_SCHEMA, Check, Order, Orders, Plan
from probe.tokens import token


def make_orders(plan: Plan, key: bytes, forbid_netns: str | None) -> Orders:
    """One order per check that is attempted. `{token}` in names becomes the check's own nonce."""
    return Orders(
        schema=ORDERS_SCHEMA,
        run_id=plan.run_id,
        settings=plan.settings,
        packets=plan.budget.packets,
        orders=tuple(_order(check, token(plan.run_id, check.n, key)) for check in plan.checks if check.skip is None),
        forbid_netns=forbid_netns,
    )


def _order(check: Check, nonce: str) -> Order:
    host = check.destination.host
    return Order(
        n=check.n,
        technique=check.technique,
        destination=replace(check.destination, host=host and host.replace("{token}", nonce)),
        token=nonce,
        query=check.query and replace(check.query, name=check.query.name.replace("{token}", nonce)),
        http=check.http,
        self_test=check.self_test,
        early=check.early,
        repeat=check.repeat,
    )
