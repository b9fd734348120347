"""Topologies come by rows, act from there on, and never keep an alert from its incident."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from desks import Desk
from thinking import Thinking, fires

from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.topology import Call, Chart, Service, Topology
from bridge.model import RowKind
from bridge.pipeline import State
from bridge.storage.state import StateStore

FILE = Chart(origin="file", services=(Service(name="shop"), Service(name="db")), calls=(Call(0, 1),))
GRAPH = Chart(origin="prometheus", services=(Service(name="db"), Service(name="disk")), calls=(Call(0, 1),))
NOTHING = Chart(origin="file")


def edges(state: State, tenant: str = "default") -> list[str]:
    topology = state.topology_of(tenant)
    return [topology.said(edge.caller, edge.callee) for edge in topology.edges()]


def test_the_file_is_everybodys_and_an_import_is_one_tenants() -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    thinking.topology("1s", GRAPH, tenant="east")

    assert edges(thinking.state, "west") == ["shop calls db (topology file)"]
    assert edges(thinking.state, "east") == ["shop calls db (topology file)", "db calls disk (service graph)"]
    assert thinking.state.topology_of("west") is thinking.state.topology_of("north")


def test_a_new_topology_takes_the_place_of_the_one_of_its_origin() -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    thinking.topology("1s", GRAPH, tenant="default")
    thinking.topology("2s", NOTHING)

    assert edges(thinking.state) == ["db calls disk (service graph)"]
    assert list(thinking.state.charts) == [("default", "prometheus")]


def test_the_same_topology_once_more_changes_nothing() -> None:
    thinking = Thinking()
    assert thinking.topology("0s", NOTHING).charts == {}
    assert thinking.topology("0s", FILE).charts == {("", "file"): FILE}
    known = thinking.state.topology_of("default")

    assert thinking.topology("1s", FILE).charts == {}
    assert thinking.state.topology_of("default") is known


@pytest.mark.parametrize("body", [b"", b"[]", b'{"origin":"file","services":[],"calls":[[0,1]]}'])
def test_what_is_no_topology_is_set_aside_and_the_one_before_goes_on(body: bytes) -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    outcome = thinking.row("1s", RowKind.TOPOLOGY, body, tenant="")

    assert [each.what for each in outcome.quarantined] == ["body"]
    assert edges(thinking.state) == ["shop calls db (topology file)"]
    assert thinking.hears("2s", fires("Latency", service="shop")).touched


def test_another_label_names_the_services_from_the_settings_on() -> None:
    thinking = Thinking(AnalysisSettings())
    thinking.topology("0s", FILE)
    labels = {"service": "shop", "unit": "db"}
    assert thinking.state.topology_of("default").node_of(labels) == 0

    thinking.settings("1s", AnalysisSettings(topology_label="unit"))

    assert thinking.state.topology_of("default").node_of(labels) == 1


def test_nothing_is_known_at_first() -> None:
    topology = State().topology_of("default")

    assert (len(topology), topology.edges(), topology.node_of({"service": "shop"})) == (0, (), None)
    assert isinstance(topology, Topology)


def test_topologies_outlive_a_restart(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    desk = Desk(store, compared=True)
    for when, tenant, chart in (
        ("0s", "", FILE), ("1s", "east", GRAPH), ("2s", "west", GRAPH), ("3s", "west", Chart(origin="prometheus")),
    ):  # fmt: skip
        desk.take(when, RowKind.TOPOLOGY, msgspec.json.encode(chart), tenant)
    loaded = store.load()

    assert {name: edges(loaded, name) for name in ("east", "west")} == {
        "east": ["shop calls db (topology file)", "db calls disk (service graph)"],
        "west": ["shop calls db (topology file)"],
    }
    store.close()
