"""What people say to one real sidecar, through its front, its inbox, its analyst and out to a destination."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sidecars import Sidecar, until


def say(sidecar: Sidecar, path: str, **body: Any) -> str:
    status, answer = sidecar.ask("POST", f"/api/v1/{path}", json.dumps(body).encode())
    assert status == 202, answer
    return str(json.loads(answer)["id"])


def shown(sidecar: Sidecar, incident: str) -> dict[str, Any]:
    return dict(json.loads(sidecar.ask("GET", f"/api/v1/incidents/{incident}")[1]))


def state_of(sidecar: Sidecar, incident: str, action: str) -> str:
    return next((each["state"] for each in shown(sidecar, incident)["actions"] if each["id"] == action), "")


def test_corrections_survive_a_restart_and_are_undone_after_it(make: Callable[..., Sidecar]) -> None:
    sidecar = make()
    sidecar.start()
    sidecar.send("Node")
    sidecar.send("Mail")
    ids = [
        until(lambda name=name: sidecar.heard_of(name), f"the incident of {name}")[0]["incident"]["id"]  # type: ignore[misc]
        for name in ("Node", "Mail")
    ]
    node, mail = ids
    assert node != mail
    ack = say(sidecar, f"incidents/{node}/ack", author="mia", text="on it")
    merge = say(sidecar, f"incidents/{mail}/merge", into=node)
    until(lambda: state_of(sidecar, mail, merge) == "applied", "the merge")
    assert state_of(sidecar, node, ack) == "applied"
    until(lambda: [e for e in sidecar.events() if e["kind"] == "merged"], "the merge, told")
    (told,) = [event for event in sidecar.events() if event["kind"] == "acknowledged"]
    assert (told["note"], told["author"]) == ("on it", "mia")
    assert shown(sidecar, mail)["merged_into"] == node
    until(lambda: sidecar.metric('tocsin_feedback_total{kind="merge"}') == 1, "the merge, counted")
    assert sidecar.end() == 0

    sidecar.start()
    until(lambda: state_of(sidecar, node, ack) == "applied", "what was said before the restart")
    undo = say(sidecar, f"actions/{merge}/undo")
    until(lambda: state_of(sidecar, mail, undo) == "applied", "the undo")
    assert state_of(sidecar, mail, merge) == "undone"
    assert (shown(sidecar, mail)["state"], len(shown(sidecar, mail)["episodes"])) == ("open", 1)
    assert shown(sidecar, node)["acknowledged_at"] is not None
    assert sidecar.end() == 0
