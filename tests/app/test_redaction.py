"""A whole sidecar that is sent what it must not keep: nothing of it is on its disk, in its answers, its log or what leaves."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sidecars import NO_MODELS, Sidecar, until
from timeline import alert, webhook

from bridge.app.replay import Wishes, replay

SECRETS = {
    "hunter2secret": "postgres://app:hunter2secret@db/shop",
    "bob.smith@corp.example": "mail bob.smith@corp.example",
    "10.77.66.55": "on 10.77.66.55:9100",
    "4111 1111 1111 1111": "card 4111 1111 1111 1111",
    "alice-the-user": "user alice-the-user",
}
SAID = " and ".join(SECRETS.values())
KEY = "the key of the hashes, never to be seen"
REDACT = """
redact:
  labels: [{name: user, action: hash}]
  email: mask
  card: mask
  ip: mask
  key: ${HASH_KEY}
destinations:
  - {name: file, kind: file, path: %(data)s/incidents.jsonl}
  - {name: less, kind: file, path: %(data)s/less.jsonl, redact: {labels: [{name: service, action: mask}]}}
"""


@pytest.fixture
def sidecar(make: Callable[..., Sidecar], tmp_path: Path) -> Sidecar:
    made = make(HASH_KEY=KEY)
    made.file.write_text(NO_MODELS + REDACT % {"data": tmp_path / "data"}, "utf-8")
    return made


def sent(name: str, **labels: str) -> dict[str, object]:
    labels = {"alertname": name, "user": "alice-the-user", "service": "shop-service", **labels}
    return alert(labels, annotations={"summary": f"{name}: {SAID}"})


def kept(data: Path) -> Iterator[tuple[str, bytes]]:
    """Yield all that the stores and files hold, but for the inbox, whose rows go within the hour."""
    for path in sorted(
        each for each in data.iterdir() if each.is_file() and not each.name.startswith("inbox.db")
    ):
        yield path.name, path.read_bytes()
        if path.suffix == ".db":
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                for (table,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in db.execute(f"select * from {table}").fetchall():  # noqa: S608
                        yield f"{path.name}:{table}", b"\n".join(map(plain, row))


def plain(value: Any) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode()
    if content[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    return content


def test_nothing_that_must_not_be_kept_is_kept_told_or_sent(sidecar: Sidecar, tmp_path: Path):
    sidecar.start()
    body = json.loads(webhook([sent("Login"), {"labels": {"user": "alice-the-user"}, "text": SAID}]))
    body |= {"groupKey": '{}:{user="alice-the-user"}', "commonLabels": {"user": "alice-the-user", "x": SAID}}
    assert sidecar.ask("POST", "/v1/alertmanager", json.dumps(body).encode())[0] == 200
    assert (
        sidecar.ask("POST", "/v1/alertmanager", f'{{"user": "alice-the-user", "alerts": "{SAID}'.encode())[0]
        == 400
    )
    until(lambda: sidecar.events() and sidecar.events("less.jsonl"), "the incident in both files")
    incident = sidecar.events()[0]["incident"]["id"]
    note = json.dumps(
        {"text": SAID.replace("alice-the-user", "somebody"), "author": "bob.smith@corp.example"}
    )
    status, _ = sidecar.ask("POST", f"/api/v1/incidents/{incident}/note", note.encode())
    assert status == 202
    until(lambda: len(sidecar.events()) == 2, "the note")
    paths = [
        "/api/v1/incidents", f"/api/v1/incidents/{incident}", "/api/v1/quarantine", "/api/v1/deliveries", "/api/v1/audit",
        "/api/v1/stats", "/api/v1/alerts", "/api/v1/models", "/api/v1/export?format=webhooks", "/api/v1/export?format=jsonl",
        "/metrics",
    ]  # fmt: skip
    entries = json.loads(sidecar.ask("GET", "/api/v1/quarantine")[1])["items"]
    assert len(entries) == 2
    paths += [f"/api/v1/quarantine/{each['id']}" for each in entries]
    answers = {path: sidecar.ask("GET", path)[1] for path in paths}
    for path, answer in answers.items():
        if '"body_base64"' in answer:
            answers[path] += base64.b64decode(json.loads(answer)["body_base64"] or "").decode()
    assert sidecar.metric('tocsin_redactions_total{kind="secrets"}') >= 2
    assert sidecar.end() == 0
    everything = [*kept(sidecar.data), ("log", sidecar.log.read_bytes())]
    everything += [(path, answer.encode()) for path, answer in answers.items()]
    for secret in (*SECRETS, KEY):
        assert [where for where, content in everything if secret.encode() in content] == []
    told = {
        name: sidecar.events(name)[0]["incident"]["episodes"][0] for name in ("incidents.jsonl", "less.jsonl")
    }
    assert told["incidents.jsonl"]["labels"]["service"] == "shop-service"
    assert told["less.jsonl"]["labels"]["service"] == "<masked>"
    assert told["less.jsonl"]["labels"]["user"] == told["incidents.jsonl"]["labels"]["user"]
    assert told["less.jsonl"]["fingerprint"] == told["incidents.jsonl"]["fingerprint"]
    assert "shop-service" not in (sidecar.data / "less.jsonl").read_text("utf-8")
    assert (
        replayed(sidecar, tmp_path)
        == [event["incident"]["episodes"][0]["labels"] for event in sidecar.events()][:1]
    )


def replayed(sidecar: Sidecar, tmp_path: Path) -> list[dict[str, str]]:
    """Return the labels that the same webhook has in a replay under the same configuration and key."""
    recording = tmp_path / "recorded.jsonl"
    recording.write_bytes(webhook([sent("Login")]) + b"\n")
    os.environ["HASH_KEY"] = KEY
    try:
        replay(
            [str(recording)],
            Wishes(config=sidecar.file, events=tmp_path / "events.jsonl", no_models=True),
            say=print,
        )
    finally:
        del os.environ["HASH_KEY"]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    return [events[0]["incident"]["episodes"][0]["labels"]]


def test_a_key_is_made_once_and_only_its_owner_reads_it(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.file.write_text(NO_MODELS + "redact: {labels: [{name: user, action: hash}]}\n", "utf-8")
    sidecar.start()
    path = sidecar.data / "redact.key"
    key = path.read_text("ascii")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for number, again in enumerate((True, False)):
        body = webhook([sent(f"Login{number}", cluster=f"c{number}")])
        assert sidecar.ask("POST", "/v1/alertmanager", body)[0] == 200
        until(lambda number=number: sidecar.heard_of(f"Login{number}"), "the incident")  # type: ignore[misc]
        analyst = sidecar.analyst()
        assert key.encode() not in Path(f"/proc/{analyst}/cmdline").read_bytes()
        assert sidecar.end() == 0
        if again:
            sidecar.start()
    assert path.read_text("ascii") == key
    users = {event["incident"]["episodes"][0]["labels"]["user"] for event in sidecar.events()}
    assert len(users) == 1
    assert users.pop().startswith("<hash:")
