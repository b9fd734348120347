"""What episodes teach about the order of services, and when it is looked at.

Rules: an alert costs a few microseconds, an onset some tens. Once an hour, at an onset, what was counted is judged, and
what is learned becomes a chart of the tenant's own. A month halves the counts.
"""

from __future__ import annotations

from msgspec.structs import replace

from bridge.analysis import precedence
from bridge.analysis.precedence import Order, Pair
from bridge.analysis.topology import Service
from bridge.model import Episode
from bridge.pipeline.desk import Desk
from bridge.pipeline.state import Tenant, day_of


def hear(desk: Desk, tenant: Tenant, episode: Episode, service: Service | None) -> None:
    """Count an episode that opens, if it begins something for its service, which it may not name."""
    key = None if service is None else precedence.key_of(service)
    if key is None:
        return
    heard = precedence.hear(tenant.record.onsets, key, episode.starts_at, desk.now)
    if heard is None:
        return
    desk.keep_record(tenant, replace(tenant.record, onsets=heard.onsets))
    for pair in heard.near:
        order = tenant.orders.get(pair, Order())
        _keep(desk, tenant, pair, replace(order, near=order.near + 1))
    for pair in heard.apart:
        order = tenant.orders.get(pair, Order())
        _keep(desk, tenant, pair, replace(order, apart=order.apart + 1))
    for pair in precedence.surplus(tenant.orders):
        _keep(desk, tenant, pair, None)
    if heard.near:
        _learn(desk, tenant)


def fade(desk: Desk, tenant: Tenant) -> None:
    """Let half of what was counted go, once a month."""
    today = day_of(desk.now)
    if not tenant.orders or today - tenant.record.halved_day < precedence.HALVE_EVERY_DAYS:
        return
    if tenant.record.halved_day:
        for pair, order in list(tenant.orders.items()):
            _keep(desk, tenant, pair, precedence.halved(order))
    desk.keep_record(tenant, replace(tenant.record, halved_day=today))


def _learn(desk: Desk, tenant: Tenant) -> None:
    last = tenant.record.learned_at
    if last is None or (desk.now - last).total_seconds() >= precedence.LEARN_EVERY_S:
        desk.keep_record(tenant, replace(tenant.record, learned_at=desk.now))
        desk.keep_chart(tenant.name, precedence.learned(tenant.orders))


def _keep(desk: Desk, tenant: Tenant, pair: Pair, order: Order | None) -> None:
    desk.out.orders[tenant.name, *pair] = order
    if order is None:
        tenant.orders.pop(pair, None)
    else:
        tenant.orders[pair] = order
