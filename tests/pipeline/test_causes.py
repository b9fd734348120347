"""Incidents carry their causal graph and their suspects' reasons, by what is known when they speak."""

from __future__ import annotations

from pathlib import Path

from thinking import Thinking, fires, same

from bridge.analysis.causal_graph import key_of
from bridge.analysis.causality import Causes, Precedes
from bridge.analysis.families import own_family
from bridge.analysis.gate import LinkFit
from bridge.analysis.learning import Linker, Table
from bridge.analysis.regrouping import split
from bridge.analysis.reports import incident_record
from bridge.analysis.topology import Call, Chart, Service
from bridge.analysis.trees import NO_TREES
from bridge.analysis.verdicts import Verdict
from bridge.model import CausalGraph
from bridge.pipeline.linkers import named_roots

FILE = Chart(origin="file", services=(Service(name="shop"), Service(name="db")), calls=(Call(0, 1),))
PLACE = {"cluster": "x", "namespace": "web", "team": "pay"}


def storm(thinking: Thinking) -> None:
    thinking.hears("25s", fires("DbSlow", starts="1s", service="db", severity="critical", **PLACE))
    thinking.hears("30s", fires("ShopErrors", starts="13s", service="shop", severity="warning", **PLACE))
    thinking.clock("2m")


def learned(thinking: Thinking) -> LinkFit:
    """Return a fit that knows the order of the two kinds in a thinking that has heard them."""
    by_name = {
        episode.name: episode.template
        for each in thinking.tenant.groups.values()
        for episode in each.episodes.values()
    }
    earlier, later = own_family(by_name["DbSlow"]), own_family(by_name["ShopErrors"])
    edge = Precedes(earlier, later, True, 21, 23, 12.0, 30.0, 9.0, 1e-6, 1e-5, True)
    linker = Linker(table=Table(), common={}, unlabelled=NO_TREES)
    return LinkFit(fit=1, linker=linker, verdict=Verdict(), causes=Causes(edges=(edge,), asked=9))


def shown(thinking: Thinking) -> dict[str, object]:
    head = thinking.group.head
    return incident_record(head, thinking.group.episodes.values())


def test_without_topology_and_history_a_suspect_says_only_its_rank_and_time() -> None:
    thinking = Thinking()
    storm(thinking)
    assert shown(thinking)["causal_graph"] == {"nodes": [], "edges": []}
    assert thinking.group.head.root[0].why == (
        "critical, started 03:00:01 UTC (rank 1 by severity, then time); first of 2, 12 s before the next"
    )


def test_a_call_alone_precedes() -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    storm(thinking)
    graph = shown(thinking)["causal_graph"]
    assert [node["name"] for node in graph["nodes"]] == ["DbSlow", "ShopErrors"]
    assert graph["edges"] == [
        {
            "from": 0,
            "to": 1,
            "word": "precedes",
            "lag_s": 12.0,
            "why": "12 s before; shop calls db (topology file)",
        }
    ]
    assert thinking.group.head.root[0].why.endswith("; shop calls db (topology file)")


def test_what_was_learned_acts_from_the_next_word_on_but_not_without_models() -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    storm(thinking)
    thinking.tenant.link_fit = learned(thinking)
    thinking.hears("3m", fires("ShopSlow", starts="150s", service="shop", **PLACE))
    thinking.clock("4m")
    (edge,) = [edge for edge in thinking.group.head.graph.edges if edge.word == "causes"]
    assert (
        edge.why == "12 s before; DbSlow precedes ShopErrors in 21 of 23 cases; shop calls db (topology file)"
    )
    assert "its kind precedes ShopErrors in 21 of 23 cases" in thinking.events[-1].incident.root[0].why

    thinking.mode("5m", model_free=True)
    thinking.hears("6m", fires("ShopDown", starts="350s", service="shop", **PLACE))
    thinking.clock("7m")
    assert thinking.group.head.graph.edges
    assert {edge.word for edge in thinking.group.head.graph.edges} == {"precedes"}


def test_a_graph_is_stored_with_its_incident(tmp_path: Path) -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    storm(thinking)
    assert thinking.group.head.graph != CausalGraph()
    assert same(thinking, thinking.restarted(tmp_path))


def test_what_leaves_an_incident_begins_without_a_graph() -> None:
    thinking = Thinking()
    thinking.topology("0s", FILE)
    storm(thinking)
    group = thinking.group
    stays, left = split(group, [next(iter(group.episodes))], group.head.opened_at)
    assert left.head.graph == CausalGraph()
    assert stays.head.graph == group.head.graph


# ---- what people say ---------------------------------------------------------------------------------------------


def ref(thinking: Thinking, name: str) -> dict[str, str]:
    (found,) = [each for each in thinking.group.episodes.values() if each.name == name]
    return {"fingerprint": found.fingerprint, "starts_at": found.starts_at.isoformat()}


def test_what_a_person_names_as_root_causes_and_what_is_taken_back_does_not() -> None:
    thinking = Thinking()
    storm(thinking)
    thinking.says("3m", "a1", "root", episodes=[ref(thinking, "ShopErrors")], author="mia")
    (edge,) = thinking.group.head.graph.edges
    assert [thinking.group.head.graph.nodes[end].name for end in (edge.earlier, edge.later)] == [
        "ShopErrors",
        "DbSlow",
    ]
    assert (edge.word, edge.lag_s) == ("causes", -12.0)
    assert thinking.group.head.root[0].why == "named by mia"

    thinking.says("4m", "u1", "undo", undoes="a1")
    thinking.clock("5m")
    assert thinking.group.head.graph == CausalGraph()


def test_the_newest_word_about_the_root_of_an_incident_teaches_until_it_is_taken_back() -> None:
    thinking = Thinking()
    storm(thinking)
    assert named_roots(thinking.tenant.lessons.values()) == ()
    thinking.says("3m", "a1", "root", episodes=[ref(thinking, "ShopErrors")])
    thinking.says("4m", "a2", "root", episodes=[ref(thinking, "DbSlow")])
    (told,) = named_roots(thinking.tenant.lessons.values())
    assert {each.labels["alertname"]: each.severity for each in told.alerts} == {
        "DbSlow": "critical", "ShopErrors": "warning"
    }  # fmt: skip
    assert [each.labels["alertname"] for each in told.alerts if key_of(each) == told.root] == ["DbSlow"]

    thinking.says("5m", "u1", "undo", undoes="a2")
    (told,) = named_roots(thinking.tenant.lessons.values())
    assert [each.labels["alertname"] for each in told.alerts if key_of(each) == told.root] == ["ShopErrors"]
