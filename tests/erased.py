"""Something to erase: a laptop's alerts, and all that remembers them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import timeline
from desks import SETTINGS, Desk
from linkers import fitted, grown

from bridge.analysis.erasing import Erase, Label
from bridge.analysis.gate import linker_row
from bridge.analysis.rounds import Content, Found, Standing
from bridge.analysis.samples import Line, Samples
from bridge.analysis.topology import Call, Chart, Service
from bridge.model import RowKind
from bridge.webhooks.alertmanager import fingerprint_of

NAME = "alice-laptop-77"
VALUE = f"{NAME}:9100"
LABEL = Label(name="instance", value=VALUE)
LAPTOP = {"alertname": "DiskFull", "instance": VALUE, "severity": "critical", "service": f"home-of-{NAME}"}
BESIDE = {"alertname": "DiskSlow", "instance": VALUE, "severity": "warning", "node": "rack-4"}
OTHER = {"alertname": "RackHot", "node": "rack-4", "severity": "warning"}
FINGERPRINTS = tuple(fingerprint_of(labels) for labels in (LAPTOP, BESIDE))


def lived(desk: Desk, tenant: str = "default", *, count_by: str = "instance") -> str:
    """Let a laptop fire in an incident of its own and in one with others, and be spoken of; return its own incident."""
    desk.use("0s", msgspec.structs.replace(SETTINGS, count_by=(count_by,)))
    desk.fires("1s", LAPTOP, tenant=tenant)
    own = next(iter(desk.state.tenants[tenant].groups))
    desk.fires("2s", OTHER, tenant=tenant)
    desk.fires("3s", BESIDE, tenant=tenant)
    told = timeline.alert({"alertname": "Backup", "job": "nightly"}, starts=timeline.after("4s"),
                          annotations={"summary": f"the backup of {NAME} is late", "owner": NAME})  # fmt: skip
    desk.take("4s", RowKind.WEBHOOK, timeline.webhook([told]), tenant)
    said = {"action": "act-1", "kind": "note", "incident": own, "text": f"{NAME} again", "author": "mia"}
    desk.take("5s", RowKind.FEEDBACK, json.dumps(said).encode(), tenant)
    said = {"action": "act-2", "kind": "useful", "incident": own}
    desk.take("6s", RowKind.FEEDBACK, json.dumps(said).encode(), tenant)
    bad = json.dumps({"alerts": [{"labels": {"instance": VALUE}, "startsAt": "never"}]}).encode()
    desk.take("7s", RowKind.WEBHOOK, bad, tenant)
    rejected = {"reason": "no JSON", "body_base64": base64.b64encode(f"{{{VALUE}".encode()).decode()}
    desk.take("8s", RowKind.REJECTED, json.dumps(rejected).encode(), tenant)
    common = {f"host={NAME}": 0.2, "node=rack-4": 0.5}
    fit = fitted(grown(("kind", 0.5, 3.0, 0.0)), shift=0.5, fit=1, common=common)
    desk.take("9s", RowKind.LINKER, linker_row(fit), tenant)
    points = tuple((timeline.after("9s").timestamp() - 60.0 * back, 1.0) for back in range(9, 0, -1))
    lines = (Line(labels={"instance": VALUE}, points=points), Line(labels={"node": "rack-4"}, points=points))
    desk.take(
        "10s", RowKind.SAMPLES, msgspec.json.encode(Samples(name="load", step_s=60.0, lines=lines)), tenant
    )
    chart = Chart(origin="prometheus", services=(Service(name=f"home-of-{NAME}"), Service(name="shop")), calls=(Call(0, 1),))  # fmt: skip
    desk.take("11s", RowKind.TOPOLOGY, msgspec.json.encode(chart), tenant)
    listed = Standing(
        fingerprint=FINGERPRINTS[0], stands=True, everywhere=True, ours=True, starts_at=timeline.after("1s"),
        content=Content(labels=LAPTOP, annotations={"summary": "it is listed"}),
    )  # fmt: skip
    desk.take("12s", RowKind.FOUND, msgspec.json.encode(Found(asked=2, settled=True, began_s=1.0, listed=(listed,))), tenant)  # fmt: skip
    desk.fires("13s", {"alertname": "Gone", "instance": VALUE, "severity": "info"}, tenant=tenant)
    gone = [
        timeline.alert(
            {"alertname": "Gone", "instance": VALUE, "severity": "info"}, ends=timeline.after("14s")
        )
    ]
    desk.take("14s", RowKind.WEBHOOK, timeline.webhook(gone), tenant)
    desk.take("40m", RowKind.CLOCK, b"", "")  # what is over is forgotten
    return own


def erase(desk: Desk, what: Erase, tenant: str = "default", *, at: str = "41m") -> None:
    """Erase, and everything that follows from it in this store."""
    desk.take(at, RowKind.ERASE, msgspec.json.encode(what), tenant)
    assert desk.store.load().picture() == desk.state.picture()
    while desk.store.erase_some(
        lambda name, incident: name in desk.state.tenants and incident in desk.state.tenants[name].groups
    ):
        assert desk.store.load().picture() == desk.state.picture()


def found_in(folder: Path, *texts: str) -> list[tuple[str, str]]:
    """Return which of these texts stand in which files of a directory, as UTF-8."""
    return [
        (path.name, text)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for text in texts
        if text.encode() in path.read_bytes()
    ]
