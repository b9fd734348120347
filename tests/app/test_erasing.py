"""Erasing in a running sidecar: from the command to the bytes of its files, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from erased import NAME, found_in
from servers import free_port
from sidecars import NO_MODELS, Sidecar, until, webhook

from bridge.cli import tocsin

TENANTS = """
tenants:
  - name: acme
    tokens: [{token: acme-admin-0123456789, role: admin}, {token: acme-responder-0123456, role: responder}]
  - name: other
    tokens: [{token: other-admin-0123456789, role: admin}]
"""
ADMIN = {"Authorization": "Bearer acme-admin-0123456789"}
OTHER = {"Authorization": "Bearer other-admin-0123456789"}
WISH = json.dumps({"tenant": "acme", "label": {"name": "host", "value": NAME}}).encode()


@pytest.fixture
def sidecar(make: Callable[..., Sidecar], tmp_path: Path) -> Sidecar:
    """A sidecar that knows of a laptop, whose events wait for a destination that does not answer."""
    made: Sidecar = make(
        configuration=f"{NO_MODELS}{TENANTS}"
        "destinations:\n"
        f"  - {{name: file, kind: file, path: {tmp_path / 'outside.jsonl'}}}\n"
        f"  - {{name: down, kind: syslog, address: '127.0.0.1:{free_port()}', transport: tcp}}\n"
    )
    made.start()
    for name in (NAME, "Elsewhere"):
        assert made.ask("POST", "/v1/alertmanager", webhook(name), ADMIN)[0] == 200
    assert made.ask("POST", "/v1/alertmanager", f'{{"alerts": 7, "of": "{NAME}"}}'.encode(), ADMIN)[0] == 400
    return made


def listed(sidecar: Sidecar, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    status, answer = sidecar.ask("GET", path, headers=headers)
    assert status == 200, answer
    return list(json.loads(answer)["items"])


def incident_of(sidecar: Sidecar, title: str, headers: dict[str, str] = ADMIN) -> dict[str, Any]:
    def look() -> list[dict[str, Any]]:
        return [each for each in listed(sidecar, "/api/v1/incidents", headers) if title in each["title"]]

    return until(look, f"an incident of {title}")[0]


def is_frozen(sidecar: Sidecar) -> bool:
    waiting = listed(sidecar, "/api/v1/deliveries?destination=down&state=waiting", ADMIN)
    return any(each["attempts"] for each in waiting)


def is_done(sidecar: Sidecar, name: str) -> bool:
    return {each["id"]: each["state"] for each in listed(sidecar, "/api/v1/erase", ADMIN)}.get(name) == "done"


def remembered(sidecar: Sidecar) -> str:
    """Let a person speak of the laptop, and wait until everything that can be stored is; return its incident."""
    incident = str(incident_of(sidecar, NAME)["incident"])
    note = json.dumps({"text": f"{NAME} again", "author": "mia"}).encode()
    assert sidecar.ask("POST", f"/api/v1/incidents/{incident}/note", note, ADMIN)[0] == 202
    until(lambda: listed(sidecar, "/api/v1/quarantine", ADMIN), "what could not be used")
    until(lambda: is_frozen(sidecar), "requests that were tried and wait")
    assert found_in(sidecar.data, NAME)
    return incident


def test_a_command_erases_a_host_from_every_byte(sidecar: Sidecar) -> None:
    incident = remembered(sidecar)
    assert not any(NAME in path.read_text() for path in sidecar.data.glob("audit-*.jsonl"))
    options = ["--url", f"http://127.0.0.1:{sidecar.port}", "--token", "acme-admin-0123456789"]
    wanted = ["erase", "--tenant", "acme", "--label", f"host={NAME}", *options]
    counted = CliRunner().invoke(tocsin, [*wanted, "--dry-run", "--json"])
    assert json.loads(counted.output)["counts"] == {"incidents": 1, "emptied": 1, "episodes": 1, "alerts": 1}
    assert CliRunner().invoke(tocsin, wanted, input="n\n").exit_code == 1
    assert incident_of(sidecar, NAME)["incident"] == incident, "nothing was done so far"
    done = CliRunner().invoke(tocsin, [*wanted, "--yes"])
    assert done.exit_code == 0, done.output
    assert "in none of the stores any more" in done.output
    assert found_in(sidecar.data, NAME) == []
    assert incident_of(sidecar, "[erased]")["incident"] == incident
    assert incident_of(sidecar, "Elsewhere")
    entry = listed(sidecar, "/api/v1/audit", ADMIN)[0]
    assert (entry["action"], entry["actor"], entry["asked"]["label"]) == ("erase", "tokens[0]", "host")
    assert entry["before"]["episodes"] == 1
    assert not any(NAME in path.read_text() for path in sidecar.data.glob("audit-*.jsonl"))
    assert NAME not in sidecar.log.read_text("utf-8").partition('"erased"')[2]


@pytest.mark.parametrize("who", ["front", "analyst"])
def test_an_erase_goes_on_after_a_kill(sidecar: Sidecar, who: str) -> None:
    remembered(sidecar)
    analyst = sidecar.analyst()
    status, answer = sidecar.ask("POST", "/api/v1/erase", WISH, ADMIN)
    assert status == 202, answer
    if who == "front":
        os.kill(sidecar.pid, signal.SIGKILL)
        assert sidecar.process is not None
        sidecar.process.wait()
        sidecar.start()
    else:
        os.kill(analyst, signal.SIGKILL)
    until(lambda: is_done(sidecar, json.loads(answer)["id"]), "the erasure is done")
    assert found_in(sidecar.data, NAME) == []
    assert sidecar.ask("POST", "/v1/alertmanager", webhook("Later"), ADMIN)[0] == 200
    assert incident_of(sidecar, "Later")


def test_another_tenant_keeps_the_same_alert(sidecar: Sidecar) -> None:
    assert sidecar.ask("POST", "/v1/alertmanager", webhook(NAME), OTHER)[0] == 200
    theirs = incident_of(sidecar, NAME, OTHER)
    remembered(sidecar)
    before = sidecar.ask("GET", f"/api/v1/incidents/{theirs['incident']}", headers=OTHER)
    exported = sidecar.ask("GET", "/api/v1/export", headers=OTHER)
    status, answer = sidecar.ask("POST", "/api/v1/erase", json.dumps({"tenant": "acme"}).encode(), ADMIN)
    assert status == 202, answer
    until(lambda: is_done(sidecar, json.loads(answer)["id"]), "the erasure is done")
    after = sidecar.ask("GET", f"/api/v1/incidents/{theirs['incident']}", headers=OTHER)
    assert json.loads(after[1])["episodes"] == json.loads(before[1])["episodes"]
    assert json.loads(after[1])["events"] == json.loads(before[1])["events"]
    assert sidecar.ask("GET", "/api/v1/export", headers=OTHER)[1].count(NAME) == exported[1].count(NAME)
    assert NAME not in sidecar.ask("GET", "/api/v1/export", headers=ADMIN)[1]
    assert listed(sidecar, "/api/v1/quarantine", ADMIN) == []
    assert listed(sidecar, "/api/v1/erase", OTHER) == []


def test_what_is_not_asked_for_well_is_refused(sidecar: Sidecar) -> None:
    responder = {"Authorization": "Bearer acme-responder-0123456"}
    refused: list[tuple[bytes, dict[str, str], int]] = [
        (WISH, responder, 403),
        (WISH, OTHER, 403),
        (b'{"tenant": "acme", "labels": {}}', ADMIN, 400),
        (b'{"tenant": "acme", "fingerprint": "f", "label": {"name": "a", "value": "b"}}', ADMIN, 400),
        (b'{"tenant": "acme", "before": "2026-01-01T00:00:00"}', ADMIN, 400),
        (b"", ADMIN, 400),
    ]
    for body, headers, status in refused:
        found, answer = sidecar.ask("POST", "/api/v1/erase", body, headers)
        assert (found, status) == (status, status), (body, answer)
        assert json.loads(answer)["detail"]
    assert sidecar.ask("GET", "/api/v1/erase", headers=responder)[0] == 403
    assert listed(sidecar, "/api/v1/erase", ADMIN) == []
