"""Precedents: what of incidents and alerts recommendations may rest on."""

from __future__ import annotations

from groups import at, episode, group
from msgspec.structs import replace

from bridge.analysis.feedback import Action, ActionState, FeedbackKind
from bridge.analysis.precedents import orders_of, past_of, sign_of
from bridge.analysis.recommending import Note, Order, Sign
from bridge.model import CausalEdge, CausalGraph, CausalNode

RUNBOOK = "https://runbooks.example/slow"


def closed(*episodes, **changes):
    return replace(group(episodes).head, closed_at=at(600), **changes)


def action(number, kind, text="", **changes):
    told = {"state": ActionState.APPLIED, "author": "mia", "incidents": ("inc-1",)} | changes
    return Action(id=f"act-{number}", number=number, at=at(number), kind=kind, text=text, **told)


def alert(labels, **annotations):
    return replace(episode("Slow"), labels={"alertname": "Slow", **labels}, annotations=annotations)


def test_an_alert_is_about_its_service_or_else_the_most_specific_thing():
    assert sign_of(alert({"instance": "db-1:9100", "service": "shop"})) == Sign("Slow", "shop")
    assert sign_of(alert({"instance": "db-1:9100", "team": "x"})) == Sign("Slow", "db-1")
    assert sign_of(alert({"team": "x"})) == Sign("Slow", "")


def test_its_runbook_stands_in_an_annotation_or_in_a_label():
    assert sign_of(alert({"runbook_url": RUNBOOK})).runbook == RUNBOOK
    assert sign_of(alert({"runbook_url": "https://other.example"}, runbook_url=RUNBOOK)).runbook == RUNBOOK


def test_a_past_incident_has_what_people_wrote_and_what_is_in_force_of_it():
    one, two = (
        alert({"service": "shop"}, runbook_url=RUNBOOK),
        replace(alert({}), labels={"alertname": "Full"}),
    )
    said = [
        action(3, FeedbackKind.CLOSE, "it was the pool"), action(1, FeedbackKind.NOTE, "looked at the pool"),
        action(2, FeedbackKind.NOTE, "never mind", state=ActionState.UNDONE), action(4, FeedbackKind.NOTE),
        action(5, FeedbackKind.ACK, "on it"),
    ]  # fmt: skip
    past = past_of(closed(one, two), (one, two), said)
    assert past is not None
    assert past.notes == (Note(at(1), "looked at the pool"), Note(at(3), "it was the pool"))
    assert (past.kinds, past.entities) == ({"Slow", "Full"}, {"shop"})
    assert (past.runbooks, past.false_alarm) == ({RUNBOOK}, False)
    assert past_of(closed(one, verdict="false_alarm"), (one,), ()).false_alarm
    assert past_of(replace(closed(one), closed_at=None), (one,), ()) is None


def test_the_newest_incident_says_in_which_order_two_kinds_come():
    def incident(opened, word, why, names=("Slow", "Full")):
        nodes = tuple(CausalNode("am", name, at(opened), name, "warning") for name in names)
        graph = CausalGraph(nodes=nodes, edges=(CausalEdge(0, 1, word, 5.0, why),))
        return replace(closed(episode()), id=f"inc-{opened}", opened_at=at(opened), graph=graph)

    older, newer = incident(1, "precedes", "5 of 5 times"), incident(2, "causes", "shop calls db")
    alike = incident(3, "precedes", "itself", ("Slow", "Slow"))
    assert orders_of([newer, alike, older]) == (Order("Slow", "Full", "causes", "shop calls db"),)
