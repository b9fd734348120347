"""Secrets of the configuration, every one of them marked: they are in no repr, fault, row, log line, answer or output."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from pydantic import BaseModel, SecretStr
from servers import free_port
from sidecars import ROOT, Sidecar, until

from bridge import config
from bridge.app.kinds import known_kinds
from bridge.config.models import Configuration
from bridge.errors import ConfigError
from connectors.credentials import Secret

MARK = "HUSH"
LONG = MARK * 10
SIGNING = "whsec_" + MARK * 8
HOST = f"127.0.0.1:{free_port()}"
GONE = f"http://{HOST}"
GIVEN: dict[str, Any] = {
    "analysis": {"models": False},
    "tenants": [{
        "name": "default",
        "tokens": [{"token": LONG, "role": "admin"}, {"token_file": "long"}],
        "passwords": [{"username": "one", "password": LONG}, {"username": "two", "password_file": "long"}],
        "jwt": [
            {"issuer": "a", "audience": "tocsin", "secret": LONG}, {"issuer": "b", "audience": "tocsin", "secret_file": "long"},
        ],
        "signatures": [{"secret": LONG}, {"secret_file": "long", "source": "other"}],
    }],
    "sources": [
        {"name": "a", "alertmanagers": [GONE], "token": LONG},
        {"name": "b", "alertmanagers": [GONE], "token_file": "long"},
        {"name": "c", "alertmanagers": [GONE], "username": "x", "password": LONG},
        {"name": "d", "alertmanagers": [GONE], "username": "x", "password_file": "long"},
    ],
    "redact": {"key": LONG},
    "destinations": [
        {"name": "file", "kind": "file", "path": "out.jsonl"},
        {"name": "callback", "kind": "callback", "url": f"{GONE}/{MARK}", "secret": SIGNING, "jwt_key": MARK * 8},
        {"name": "callback2", "kind": "callback", "url_file": "url", "secret_file": "signing", "jwt_key_file": "key"},
        {"name": "splunk", "kind": "splunk", "url": GONE, "token": LONG},
        {"name": "splunk2", "kind": "splunk", "url": GONE, "token_file": "long"},
        {"name": "slack", "kind": "slack", "api_url": GONE, "channel": "#x", "token": f"xoxb-{LONG}"},
        {"name": "slack2", "kind": "slack", "api_url": GONE, "channel": "#x", "token_file": "slack"},
        {"name": "slack3", "kind": "slack", "url": f"{GONE}/{MARK}"},
        {"name": "slack4", "kind": "slack", "url_file": "url"},
        {"name": "pager", "kind": "pagerduty", "url": GONE, "routing_key": MARK * 8},
        {"name": "pager2", "kind": "pagerduty", "url": GONE, "routing_key_file": "key"},
        {"name": "elastic", "kind": "elastic", "url": GONE, "api_key": MARK * 8},
        {"name": "elastic2", "kind": "elastic", "url": GONE, "api_key_file": "key"},
        {"name": "loki", "kind": "loki", "url": GONE, "username": "x", "password": LONG},
        {"name": "otlp", "kind": "otlp", "url": GONE, "token": LONG},
        {"name": "servicenow", "kind": "servicenow", "url": GONE, "username": "x", "password_file": "long"},
        {"name": "jira", "kind": "jira", "url": GONE, "username": "x", "project": "OPS", "token_file": "long"},
        {"name": "opsgenie", "kind": "opsgenie", "url": GONE, "api_key": LONG},
        {"name": "teams", "kind": "teams", "url": f"{GONE}/{MARK}"},
        {"name": "discord", "kind": "discord", "url": f"{GONE}/api/webhooks/1/{LONG}"},
        {"name": "chat", "kind": "google_chat", "url": f"{GONE}/v1/spaces/A/messages?key={MARK}&token={LONG}"},
        {"name": "mail", "kind": "email", "server": HOST, "username": "x", "password": LONG,
         "sender": "a@example.com", "to": ["b@example.com"]},
        {"name": "kafka", "kind": "kafka", "servers": HOST, "topic": "t", "username": "x", "password": LONG},
        {"name": "postgres", "kind": "postgres", "address": HOST, "database": "d", "user": "u", "password": LONG},
        {"name": "apprise", "kind": "apprise", "url": f"json://{HOST}/{LONG}"},
        *({"name": name, "kind": name, "region": "eu-west-1", "endpoint": GONE, "access_key_id": "AKIA", **keys, **more}
          for name, more in (
              ("s3", {"bucket": "incidents"}), ("sqs", {"queue_url": f"{GONE}/1/q"}), ("eventbridge", {"bus": "b"}),
              ("sns", {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:incidents"}),
              ("securityhub", {"account": "123456789012"}),
          )
          for keys in ({"secret_access_key": LONG, "session_token": LONG},)),
        {"name": "s3b", "kind": "s3", "region": "eu-west-1", "endpoint": GONE, "bucket": "incidents", "access_key_id": "A",
         "secret_access_key_file": "long", "session_token_file": "long"},
        {"name": "blob", "kind": "blob", "url": GONE, "container": "incidents", "sas_token": f"sv=1&sig={LONG}"},
        {"name": "blob2", "kind": "blob", "url": GONE, "container": "incidents", "sas_token_file": "sas"},
    ],
}  # fmt: skip
FILES = {
    "long": f"{LONG}-of-a-file",
    "url": f"{GONE}/{MARK}",
    "signing": SIGNING,
    "slack": f"xoxb-{LONG}",
    "key": MARK * 8,
    "sas": f"sv=1&sig={LONG}",
}
SENTINEL = {
    "kind": "sentinel", "url": "https://a.ingest.monitor.azure.com", "rule": "dcr-000a00a000a00000a000000aa000a0aa",
    "tenant_id": "11111111-0000-4000-8000-000000000000", "client_id": "22222222-0000-4000-8000-000000000000",
}  # fmt: skip
#: What needs more than this machine: read, and never sent to.
ELSEWHERE: list[dict[str, Any]] = [
    {"name": "sentinel", **SENTINEL, "client_secret": LONG},
    {"name": "sentinel2", **SENTINEL, "client_secret_file": "long"},
]
AUTHORISED = {"Authorization": f"Bearer {LONG}"}


def types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from types_in(part)


def secrets_of(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield each setting of a model, and of those in it, that is a secret, with its model's name."""
    for name, field in model.model_fields.items():
        found = list(types_in(field.annotation))
        if {SecretStr, Secret} & {each for each in found if isinstance(each, type)}:
            yield model.__name__, field.alias or name
        for inner in found:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from secrets_of(inner)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where in a configuration a marked text stands."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*place, key))
    elif isinstance(value, str) and MARK in value:
        yield place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(folder: Path, given: Any) -> config.Settings:
    (folder / "tocsin.yaml").write_text(json.dumps(given), "utf-8")  # YAML is more than JSON
    return config.load(folder / "tocsin.yaml", known_kinds(), {})


def test_every_setting_that_is_a_secret_is_given_here():
    models = [Configuration, *(kind.Settings for kind in known_kinds().values())]
    wanted = {name for model in models for _, name in secrets_of(model)}
    # `redact.key` is one, so its twin cannot stand beside it.
    text = json.dumps([GIVEN, ELSEWHERE]) + '"key_file":'
    assert {name for name in wanted if f'"{name}":' not in text} == set()
    assert len(wanted) >= 12


def test_no_repr_and_no_row_shows_a_secret(folder: Path):
    settings = load(folder, {**GIVEN, "destinations": [*GIVEN["destinations"], *ELSEWHERE]})
    shown = [
        repr(settings),
        str(settings),
        msgspec.json.encode(settings.analysis).decode(),
        repr(settings.redact_key),
    ]
    for each in settings.destinations:
        shown += [
            repr(each.settings),
            str(each.settings),
            each.settings.model_dump_json(),
            str(each.settings.model_dump()),
        ]
        shown.append(repr(vars(each.settings)))
    assert [text for text in shown if MARK in text] == []


@pytest.mark.parametrize(
    "wrong", [[LONG], {LONG: LONG}, MARK, f"{LONG}\n{LONG}", f"\u00e9{LONG}", f"ftp://{LONG}"]
)
def test_no_fault_repeats_a_secret(folder: Path, wrong: Any):
    for place in places(GIVEN):
        given = deepcopy(GIVEN)
        block = given
        for part in place[:-1]:
            block = block[part]
        block[place[-1]] = wrong
        try:
            shown = repr(load(folder, given))
        except ConfigError as error:
            shown = f"{error}{error!r}{error.faults}"
        assert MARK not in shown, place


def test_a_running_sidecar_and_a_check_show_none(folder: Path, make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.file.write_text(json.dumps(GIVEN), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sidecars.ROOT", folder)  # where relative paths start
        sidecar.environ = dict(sidecar.environ) | {"PYTHONPATH": str(ROOT)}
        sidecar.start()
    alert = {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-01-01T00:00:00Z"}
    body = json.dumps({"alerts": [alert]}).encode()
    assert sidecar.ask("POST", "/v1/alertmanager", body, AUTHORISED)[0] == 200
    assert sidecar.ask("POST", "/v1/alertmanager", body, {"Authorization": f"Bearer {LONG}x"})[0] == 401
    until((folder / "out.jsonl").exists, "the incident")
    until(lambda: len(sidecar.logged("delivery_attempt")) >= 5, "destinations that do not answer")
    until(lambda: sidecar.logged("poll_failed"), "Alertmanagers that do not answer")
    shown = [
        sidecar.ask("GET", path, headers=AUTHORISED)[1]
        for path in (
            "/api/v1/incidents", "/api/v1/deliveries", "/api/v1/quarantine", "/api/v1/stats", "/api/v1/audit", "/api/v1/alerts",
            "/api/v1/export?format=webhooks", "/metrics", "/-/ready", "/",
        )
    ]  # fmt: skip
    shown.append(sidecar.ask("POST", "/-/reload", b"", AUTHORISED)[1])
    checked = subprocess.run(
        [sys.executable, "-m", "bridge", "check", str(sidecar.file), "--connect", "--json"],
        capture_output=True, cwd=folder, env=sidecar.environ, timeout=60, check=False,
    )  # fmt: skip
    shown += [checked.stdout.decode(), checked.stderr.decode()]
    assert "callback" in shown[-2]
    assert sidecar.end() == 0
    shown.append(sidecar.log.read_text("utf-8"))
    for name in ("state.db", "state.db-wal", "inbox.db", "inbox.db-wal", "delivery.db", "delivery.db-wal"):
        path = sidecar.data / name
        shown += [path.read_bytes().decode("latin-1")] if path.exists() else []
    assert [text[max(text.find(MARK) - 200, 0) :][:400] for text in shown if MARK in text] == []
