"""The order of services is learned from what is heard, kept, judged once an hour, and fades."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import timeline
from desks import Desk
from timeline import START

from bridge.analysis.topology import Call, Chart, Service
from bridge.model import RowKind
from bridge.pipeline import State
from bridge.storage.state import StateStore

HOURS = 3


def lived(desk: Desk, times: int, *, first: int = 0, source: str = "default") -> None:
    """Hear `times` incidents of the database, each felt by the shop a minute later."""
    for number in range(first, first + times):
        for service, second in (("db", 0), ("shop", 60)):
            at = START + timedelta(hours=HOURS * number, seconds=second)
            sent = timeline.alert(
                {"alertname": "Errors", "service": service, "namespace": "web", "n": str(number)}, starts=at
            )
            desk.number += 1
            row = timeline.row(desk.number, at, timeline.webhook([sent]), tenant="default", source=source)
            desk.hear(row)


def said(state: State) -> list[str]:
    topology = state.topology_of("default")
    return [topology.said(edge.caller, edge.callee) for edge in topology.edges()]


def test_what_precedes_is_learned_and_outlives_a_restart(tmp_path: Path):
    desk = Desk(StateStore(tmp_path / "state.db"), compared=True)
    lived(desk, 5)
    assert said(desk.state) == []
    lived(desk, 10, first=5)
    assert said(desk.state) == ["db precedes shop (first in 15 of 15, p<0.001)"]
    assert said(desk.store.load()) == said(desk.state)
    topology = desk.state.topology_of("default")
    shop, db = (topology.node_of({"app": name, "namespace": "web"}) for name in ("shop", "db"))
    assert shop is not None
    assert db is not None
    assert topology.hops(shop, db) == 1
    desk.store.close()


def test_a_file_that_knows_both_services_goes_before_what_was_learned(tmp_path: Path):
    desk = Desk(StateStore(tmp_path / "state.db"))
    lived(desk, 15)
    chart = Chart(
        origin="file",
        services=(Service(name="db"), Service(name="shop"), Service(name="q")),
        calls=(Call(0, 2),),
    )
    desk.number += 1
    at = START + timedelta(hours=HOURS * 15)
    desk.hear(timeline.row(desk.number, at, msgspec.json.encode(chart), kind=RowKind.TOPOLOGY, tenant=""))
    assert said(desk.state) == ["db calls q (topology file)"]
    desk.store.close()


def test_tocsins_own_alerts_teach_nothing(tmp_path: Path):
    desk = Desk(StateStore(tmp_path / "state.db"))
    lived(desk, 3, source="tocsin")
    assert desk.state.tenants["default"].orders == {}
    desk.store.close()


def test_what_is_not_heard_again_fades(tmp_path: Path):
    desk = Desk(StateStore(tmp_path / "state.db"), compared=True)
    lived(desk, 15)
    assert [order.near for order in desk.state.tenants["default"].orders.values()] == [15]
    for days in (2, 33, 64, 95, 126):
        desk.number += 1
        desk.hear(timeline.row(desk.number, START + timedelta(days=days), b"", kind=RowKind.CLOCK, tenant=""))
    assert desk.state.tenants["default"].orders == {}
    desk.store.close()
