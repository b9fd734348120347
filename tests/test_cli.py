"""The command line: help for everything, exit codes, and every command against a real server or real files."""

from __future__ import annotations

import base64
import csv
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import duckdb
import msgspec
import pytest
from click.testing import CliRunner, Result
from servers import free_port
from stores import apart, fill, firing, row
from timeline import START, alert, stamp, webhook
from typing_extensions import override

from bridge.cli import tocsin
from bridge.storage.reading import StateReader

INCIDENT = {
    "incident": "inc-1", "tenant": "default", "origin": "alerts", "state": "open",
    "opened_at": "2026-01-05T03:00:00Z", "closed_at": None, "title": "Disk on db-1\x1b[31m", "summary": "It is full.",
    "severity": "critical", "anomaly": 0.5, "anomaly_reason": "four times the usual rate", "root": [], "merged_into": None,
}  # fmt: skip
EPISODE = {
    "fingerprint": "f", "starts_at": "2026-01-05T03:00:00Z", "ends_at": None, "source": "default",
    "labels": {"alertname": "Disk", "node": "db-1"}, "demoted": False, "why": "first",
}  # fmt: skip
STATS = {
    "inbox_backlog": 3, "cursor": 7, "processed_until": "2026-01-05T03:00:00Z",
    "incidents": {"open": 1, "quiet": 0, "closed": 2, "merged": 0}, "episodes": 9, "episodes_firing": 4,
    "quarantined": 1, "deliveries": {"waiting": 2, "dead": 1},
    "grouping": {"way": "bursts", "reason": "12 of 300 alerts to learn from"},
    "analyst": {"up": True, "models": "work", "degraded": False},
    "destinations": [
        {"name": "file", "state": "working", "reason": "", "since": None},
        {"name": "siem", "state": "blocked", "reason": "HTTP 403", "since": "2026-01-05T03:00:00Z"},
    ],
}  # fmt: skip
LETTER = {
    "id": 5, "destination": "siem", "state": "dead", "kind": "opened", "incident": "inc-1", "attempts": 20,
    "next_at": None, "reason": "HTTP 400", "blocked": False,
}  # fmt: skip
ASIDE = {
    "id": 3, "tenant": "default", "source": "am", "received_at": "2026-01-05T03:00:00Z", "inbox_id": 9,
    "what": "alert", "reason": "labels are no mapping", "body_bytes": 4,
    "replayed_at": "2026-01-05T03:10:00Z",
}  # fmt: skip


SHORT, CUT = -1, -2  # answers that end before they are over


class Sidecar:
    """A server that answers as the API does and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/api/v1/stats": (200, STATS),
            "/api/v1/incidents": (200, {"items": [{**INCIDENT, "episode_count": 1}], "next": None}),
            "/api/v1/incidents/inc-1": (200, {
                **INCIDENT, "episodes": [EPISODE], "deliveries": [LETTER],
                "root": [{"fingerprint": "f", "starts_at": EPISODE["starts_at"], "confidence": 0.8, "why": "earliest"}],
            }),
            "/api/v1/deliveries": (200, {"items": [LETTER], "next": None}),
            "/api/v1/deliveries/5/retry": (202, {"id": "5"}),
            "/api/v1/deliveries/5/drop": (202, {"id": "5"}),
            "/api/v1/quarantine": (200, {"items": [ASIDE], "next": None}),
            "/api/v1/quarantine/3": (200, {**ASIDE, "body": '{"labels": 7}'}),
            "/api/v1/quarantine/3/replay": (202, {"id": 10}),
            "/api/v1/export": (200, b'{"a":1}\n{"b":2}\n'),
        }  # fmt: skip
        self.asked: list[tuple[str, str, str | None]] = []
        self.url = ""


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    it = Sidecar()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            it.asked.append((self.command, self.path, self.headers.get("Authorization")))
            unknown = (404, {"detail": "no such thing", "status": 404})
            status, answer = it.answers.get(self.path, it.answers.get(self.path.partition("?")[0], unknown))
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(200 if status in {SHORT, CUT} else status)
            if status == CUT:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x\r\n%s\r\n" % (len(body), body)  # and no last chunk
            else:
                self.send_header("Content-Length", str(len(body) + (9 if status == SHORT else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        do_POST = do_GET  # noqa: N815 - the server's name for it

        @override
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield it
    server.shutdown()
    thread.join()
    server.server_close()


def run(*words: str, **more: Any) -> Result:
    return CliRunner().invoke(tocsin, list(words), **more)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


# ---- help and usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", list(commands(tocsin)), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert "Usage: tocsin" in result.output
    assert all(len(line) <= 110 for line in result.output.splitlines())


@pytest.mark.parametrize(
    "path",
    [path for path in commands(tocsin) if path != ()],
    ids=" ".join,
)
def test_every_command_shows_examples_of_itself(path: tuple[str, ...]) -> None:
    output = run(*path, "--help").output
    assert "Examples:" in output
    assert f"tocsin {' '.join(path)}" in output.partition("Examples:")[2]


@pytest.mark.parametrize("path", [(), ("deliveries",), ("quarantine",)], ids=str)
def test_what_a_list_of_commands_says_of_each_is_said_to_its_end(path: tuple[str, ...]) -> None:
    assert "..." not in run(*path, "--help").output.partition("Commands:")[2]


def test_help_loads_no_room_that_costs_time() -> None:
    program = (
        "import sys\nfrom bridge.cli import tocsin\n"
        "try: tocsin(['--help'])\nexcept SystemExit: pass\n"
        "slow = {'aiohttp', 'pydantic', 'msgspec', 'zstandard', 'numpy', 'torch', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(str(slow) if slow else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("way", [[], ["-u"]])
@pytest.mark.parametrize(
    ("command", "text"),
    [("score", "timestamp,value\n1,2\n"), ("backtest", "start\n1700000000\n1700100000\n")],
)
def test_an_output_that_is_full_is_told_in_a_sentence(
    tmp_path: Path, way: list[str], command: str, text: str
) -> None:
    (tmp_path / "in.csv").write_text(text)
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, *way, "-m", "bridge", command, str(tmp_path / "in.csv")],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1] == "Error: cannot write what was found: No space left on device"
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("command", "text"),
    [("score", "timestamp,value\n1,2\n"), ("backtest", "start\n1700000000\n1700100000\n")],
)
def test_an_output_that_is_closed_is_told_in_a_sentence(tmp_path: Path, command: str, text: str) -> None:
    (tmp_path / "in.csv").write_text(text)
    closing = f'exec "$0" -m bridge {command} "$1" >&-'
    found = subprocess.run(
        ["sh", "-c", closing, sys.executable, str(tmp_path / "in.csv")],
        stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.splitlines() == ["Error: standard output is closed; name a file with --out"]


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["replay"],
        ["check"],
        ["check", "none.yaml"],
        ["incidents", "--limit", "0"],
        ["incidents", "--since", "yesterday"],
        ["incidents", "--since", "2026-01-01T00:00:00"],
        ["incidents", "--since", "999999d"],
        ["incidents", "--since", "0001-01-01T00:00:00+14:00"],
        ["incidents", "--state", "broken"],
        ["deliveries", "retry"],
        ["deliveries", "retry", "5", "--all"],
        ["quarantine", "show", "x"],
        ["export", "--format", "xlsx", "--out", "x"],
        ["export", "--format", "jsonl"],
        ["replay", "x", "--until", "soon"],
    ],
    ids=" ".join,
)
def test_a_command_that_is_written_wrongly_exits_2(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit), "a sentence, no traceback"


# ---- asking a sidecar --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["status"], ["incidents"], ["deliveries", "list"], ["quarantine", "replay", "1"]], ids=" ".join
)
def test_nobody_there_exits_1_and_says_what_to_do(words: list[str]) -> None:
    result = run(*words, "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "tocsin serve" in result.output
    assert "Traceback" not in result.output


def test_status_is_told_to_people_and_machines(sidecar: Sidecar) -> None:
    told = run("status", "--url", sidecar.url).output
    assert "1 open, 0 quiet, 2 closed" in told
    assert "deliveries list" in told
    assert "analyst      up, models work\n" in told
    assert "grouping     by time alone: 12 of 300 alerts to learn from\n" in told
    assert "destinations file works\n" in told
    assert "siem refuses Tocsin since 2026-01-05 03:00:00Z: HTTP 403\n" in told
    assert json.loads(run("status", "--url", sidecar.url, "--json").output) == STATS


@pytest.mark.parametrize(
    ("analyst", "said"),
    [
        ({"up": False, "models": "missing", "degraded": True},
         "down: webhooks are kept and understood later, models are not loaded, incidents are decided without them"),
        ({"up": True, "models": "off", "degraded": True},
         "up, models are switched off, incidents are decided without them"),
    ],
)  # fmt: skip
def test_status_says_what_the_analyst_lacks(sidecar: Sidecar, analyst: dict[str, Any], said: str) -> None:
    sidecar.answers["/api/v1/stats"] = (200, {**STATS, "analyst": analyst, "destinations": []})
    told = run("status", "--url", sidecar.url).output
    assert f"analyst      {said}\n" in told
    assert "destinations none that a route leads to\n" in told


def test_incidents_are_listed_without_control_characters(sidecar: Sidecar) -> None:
    result = run("incidents", "--url", sidecar.url)
    assert "Disk on db-1" in result.output
    assert "\x1b[31m" not in result.output
    assert json.loads(run("incidents", "--url", sidecar.url, "--json").output)[0]["incident"] == "inc-1"


def test_filters_go_to_the_api(sidecar: Sidecar) -> None:
    run("incidents", "--url", sidecar.url, "--state", "open", "--state", "quiet", "--severity", "critical",
        "--since", "2026-01-05T04:00:00+01:00")  # fmt: skip
    [(_, path, _)] = sidecar.asked
    assert path == (
        "/api/v1/incidents?state=open%2Cquiet&severity=critical&since=2026-01-05T03%3A00%3A00Z&limit=50"
    )


def test_a_list_longer_than_one_page_is_followed(sidecar: Sidecar) -> None:
    item = {**INCIDENT, "episode_count": 1}
    sidecar.answers["/api/v1/incidents"] = (200, {"items": [item] * 2, "next": "more"})
    assert len(json.loads(run("incidents", "--url", sidecar.url, "--json", "--limit", "5").output)) == 6
    assert [path.partition("limit=")[2] for _, path, _ in sidecar.asked] == [
        "5",
        "3&cursor=more",
        "1&cursor=more",
    ]


def test_one_incident_is_shown_whole(sidecar: Sidecar) -> None:
    told = run("incidents", "inc-1", "--url", sidecar.url).output
    for part in ("It is full.", "0.80  Disk on db-1: earliest", "{node=db-1}", "siem",
                 "anomaly 0.50: four times the usual rate"):  # fmt: skip
        assert part in told


def test_the_beginning_of_an_id_is_enough_where_it_is_only_ones(sidecar: Sidecar) -> None:
    assert "It is full." in run("incidents", "inc", "--url", sidecar.url).output
    assert [path for _, path, _ in sidecar.asked] == [
        "/api/v1/incidents?id=inc&limit=4", "/api/v1/incidents/inc-1"
    ]  # fmt: skip


def test_the_beginning_of_several_ids_is_not_enough(sidecar: Sidecar) -> None:
    items = [{**INCIDENT, "incident": each, "episode_count": 1} for each in ("inc-1", "inc-12")]
    sidecar.answers["/api/v1/incidents"] = (200, {"items": items, "next": None})
    result = run("incidents", "inc", "--url", sidecar.url)
    assert result.exit_code == 1
    assert "'inc': inc-1, inc-12; write more of it" in result.output
    assert "It is full." in run("incidents", "inc-1", "--url", sidecar.url).output, "a whole id is one"


def test_an_unknown_incident_exits_1_and_names_the_command(sidecar: Sidecar) -> None:
    sidecar.answers["/api/v1/incidents"] = (200, {"items": [], "next": None})
    result = run("incidents", "../x?y", "--url", sidecar.url)
    assert result.exit_code == 1
    assert "no incident's id begins with '../x?y'; `tocsin incidents` lists them" in result.output
    assert sidecar.asked[0][1] == "/api/v1/incidents?id=..%2Fx%3Fy&limit=4"


def test_a_token_comes_from_an_option_a_file_or_the_environment(sidecar: Sidecar, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("of-a-file\n")
    run("status", "--url", sidecar.url, "--token", "of-an-option")
    run("status", "--url", sidecar.url, "--token-file", str(secret))
    run("status", "--url", sidecar.url, env={"TOCSIN_TOKEN": "of-the-environment"})
    run("status", "--url", sidecar.url)
    assert [authorization for *_, authorization in sidecar.asked] == [
        "Bearer of-an-option", "Bearer of-a-file", "Bearer of-the-environment", None
    ]  # fmt: skip


def test_a_refused_token_is_explained_and_never_repeated(sidecar: Sidecar) -> None:
    sidecar.answers["/api/v1/stats"] = (401, {"detail": "send a token"})
    result = run("status", "--url", sidecar.url, "--token", "very-secret")
    assert result.exit_code == 1
    assert "--token" in result.output
    assert "very-secret" not in result.output


@pytest.mark.parametrize("answer", [b"<html>", b""])
def test_something_else_than_tocsin_is_noticed(sidecar: Sidecar, answer: bytes) -> None:
    sidecar.answers["/api/v1/stats"] = (200, answer)
    result = run("status", "--url", sidecar.url)
    assert result.exit_code == 1
    assert "is it Tocsin?" in result.output


@pytest.mark.parametrize(
    "url",
    [
        "localhost", "ftp://x", "file:///etc/passwd", "http://", "http://[::1", "http://x:99999", "http://x:y",
        "http://a..b", "http://127.0.0.1:9195/\u0142", "http://x/?y=1",
    ],
)  # fmt: skip
def test_an_address_that_is_none_exits_1(url: str) -> None:
    result = run("status", "--url", url)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "a sentence, no traceback"
    assert "http://HOST:PORT" in result.output


def test_an_address_with_a_password_is_refused_without_repeating_it() -> None:
    result = run("status", "--url", "http://me:hunter2@127.0.0.1:9195")
    assert result.exit_code == 1
    assert "hunter2" not in result.output


@pytest.mark.parametrize("token", ["very\nsecret", "very-secret-\u0142", "", "very secret"])
def test_a_token_that_no_header_can_carry_is_not_repeated(sidecar: Sidecar, token: str) -> None:
    result = run("status", "--url", sidecar.url, "--token", token)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "a sentence, no traceback"
    assert "the token must be visible ASCII characters" in result.output
    assert "very" not in result.output
    assert sidecar.asked == []


def test_a_token_file_that_is_no_text_exits_1(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
    result = run("status", "--url", sidecar.url, "--token-file", str(tmp_path / "token"))
    assert result.exit_code == 1
    assert "it is no text file" in result.output


def test_tls_to_a_plain_port_is_explained(sidecar: Sidecar) -> None:
    result = run("status", "--url", sidecar.url.replace("http:", "https:"))
    assert result.exit_code == 1
    assert f"is the sidecar behind https? It answers plain HTTP by itself; try {sidecar.url}" in result.output


@pytest.mark.parametrize("answer", [b"[]", b"{}", b"null", b'"x"', b'{"items": 1, "next": 2}',
                                    b'{"items": [1], "next": null}', b"[" * 100_000])  # fmt: skip
@pytest.mark.parametrize(
    "words", [["status"], ["incidents"], ["incidents", "inc-1"], ["deliveries", "list"], ["quarantine", "list"],
              ["quarantine", "show", "3"], ["quarantine", "show", "3", "--raw"]], ids=" ".join,
)  # fmt: skip
def test_json_of_another_shape_is_said_to_be_that(sidecar: Sidecar, words: list[str], answer: bytes) -> None:
    sidecar.answers = dict.fromkeys(sidecar.answers, (200, answer))
    result = run(*words, "--url", sidecar.url)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), "a sentence, no traceback"
    assert "is it Tocsin" in result.output


def test_json_of_another_shape_inside_of_a_list_is_said_to_be_that(sidecar: Sidecar) -> None:
    for path in ("/api/v1/incidents", "/api/v1/deliveries", "/api/v1/quarantine"):
        sidecar.answers[path] = (200, {"items": [{"id": 1}], "next": None})
        word = path.rpartition("/")[2]
        result = run(*([word] if word == "incidents" else [word, "list"]), "--url", sidecar.url)
        assert (result.exit_code, "is it Tocsin" in result.output) == (1, True)


# ---- dead letters and quarantine ---------------------------------------------------------------------------


def test_dead_letters_are_listed_retried_and_dropped(sidecar: Sidecar) -> None:
    assert "HTTP 400" in run("deliveries", "list", "--url", sidecar.url).output
    assert run("deliveries", "retry", "5", "--url", sidecar.url).exit_code == 0
    assert run("deliveries", "drop", "--all", "--destination", "siem", "--url", sidecar.url).exit_code == 0
    assert [(method, path.partition("&limit")[0]) for method, path, _ in sidecar.asked] == [
        ("GET", "/api/v1/deliveries?state=dead"),
        ("POST", "/api/v1/deliveries/5/retry"),
        ("GET", "/api/v1/deliveries?state=dead&destination=siem"),
        ("POST", "/api/v1/deliveries/5/drop"),
    ]


def test_without_dead_letters_what_waits_is_told(sidecar: Sidecar) -> None:
    sidecar.answers["/api/v1/deliveries?state=dead&limit=100"] = (200, {"items": [], "next": None})
    sidecar.answers["/api/v1/deliveries"] = (200, {"items": [LETTER, LETTER], "next": None})
    told = run("deliveries", "list", "--url", sidecar.url).output
    assert told == "No dead letters. 2 deliveries wait; see them with --state waiting.\n"
    sidecar.answers["/api/v1/deliveries"] = (200, {"items": [LETTER], "next": None})
    assert "1 delivery waits;" in run("deliveries", "list", "--url", sidecar.url).output
    sidecar.answers["/api/v1/deliveries"] = (200, {"items": [], "next": None})
    told = run("deliveries", "list", "--url", sidecar.url).output
    assert told == "No dead letters, and nothing waits.\n"


def test_a_delivery_behind_a_destination_that_refuses_shows_no_time_that_has_passed(sidecar: Sidecar) -> None:
    waits = {**LETTER, "state": "waiting", "blocked": True, "next_at": "2026-01-05T03:00:00Z",
             "reason": "the destination refuses: HTTP 403"}  # fmt: skip
    sidecar.answers["/api/v1/deliveries"] = (200, {"items": [waits], "next": None})
    told = run("deliveries", "list", "--state", "waiting", "--url", sidecar.url).output
    assert re.search(r"20 +blocked +the destination refuses: HTTP 403", told)
    assert "2026-01-05" not in told


def test_all_dead_letters_go_again_in_the_order_in_which_they_were_made(sidecar: Sidecar) -> None:
    """The list shows the newest first; sent off like that a destination would get the end before the beginning."""
    letters = [{**LETTER, "id": number} for number in (9, 7, 5)]
    sidecar.answers["/api/v1/deliveries"] = (200, {"items": letters, "next": None})
    for number in (7, 9):
        sidecar.answers[f"/api/v1/deliveries/{number}/retry"] = (202, {"id": str(number)})
    assert run("deliveries", "retry", "--all", "--url", sidecar.url).exit_code == 0
    assert [path for method, path, _ in sidecar.asked if method == "POST"] == [
        "/api/v1/deliveries/5/retry", "/api/v1/deliveries/7/retry", "/api/v1/deliveries/9/retry",
    ]  # fmt: skip


def test_a_destination_that_is_misspelt_exits_1_and_says_which_there_are(sidecar: Sidecar) -> None:
    detail = "must be one of chat, siem"
    sidecar.answers["/api/v1/deliveries"] = (400, {"detail": detail, "parameter": "destination"})
    result = run("deliveries", "retry", "--all", "--destination", "siemm", "--url", sidecar.url)
    assert result.exit_code == 1
    assert detail in result.output


def test_one_refusal_does_not_keep_the_others_and_exits_1(sidecar: Sidecar) -> None:
    result = run("deliveries", "retry", "4", "5", "--url", sidecar.url)
    assert result.exit_code == 1
    assert "1 item done, 1 refused" in result.output
    assert (
        "4: no delivery of this id that one can retry; `tocsin deliveries list --state all`" in result.output
    )
    assert [path for method, path, _ in sidecar.asked] == [
        "/api/v1/deliveries/4/retry", "/api/v1/deliveries/5/retry"
    ]  # fmt: skip


def test_the_quarantine_is_listed_shown_and_replayed(sidecar: Sidecar) -> None:
    told = run("quarantine", "list", "--url", sidecar.url).output
    assert re.search(r"SENT AGAIN +REASON\n3 .* 2026-01-05 03:10:00Z +labels are no mapping", told)
    assert '{"labels": 7}' in run("quarantine", "show", "3", "--url", sidecar.url).output
    assert run("quarantine", "show", "3", "--raw", "--url", sidecar.url).stdout_bytes == b'{"labels": 7}'
    assert run("quarantine", "replay", "3", "--url", sidecar.url).exit_code == 0
    assert sidecar.asked[-1][:2] == ("POST", "/api/v1/quarantine/3/replay")


def test_an_entry_of_the_quarantine_that_is_not_there_names_the_command(sidecar: Sidecar) -> None:
    result = run("quarantine", "show", "4", "--url", sidecar.url)
    assert result.exit_code == 1
    assert "`tocsin quarantine list` lists what is there" in result.output


def test_bytes_that_are_no_text_come_out_as_they_were(sidecar: Sidecar) -> None:
    sidecar.answers["/api/v1/quarantine/3"] = (
        200,
        {**ASIDE, "body_base64": base64.b64encode(b"\xff\x00").decode()},
    )
    assert run("quarantine", "show", "3", "--raw", "--url", sidecar.url).stdout_bytes == b"\xff\x00"
    assert "--raw" in run("quarantine", "show", "3", "--url", sidecar.url).output


# ---- files -------------------------------------------------------------------------------------------------


def test_an_export_by_the_api_is_written_whole(sidecar: Sidecar, tmp_path: Path) -> None:
    result = run("export", "--format", "webhooks", "--out", str(tmp_path / "new"), "--url", sidecar.url)
    assert result.exit_code == 0
    assert (tmp_path / "new" / "webhooks.jsonl").read_bytes() == b'{"a":1}\n{"b":2}\n'
    assert "2 lines" in result.stderr


@pytest.mark.parametrize(
    ("how", "body"), [(SHORT, b'{"a":1}\n'), (CUT, b'{"a":1}\n'), (200, b'{"a":1}\n{"b"')]
)
def test_an_export_that_breaks_off_leaves_no_file(
    sidecar: Sidecar, tmp_path: Path, how: int, body: bytes
) -> None:
    sidecar.answers["/api/v1/export"] = (how, body)
    (tmp_path / "webhooks.jsonl").write_bytes(b"the one before\n")
    result = run("export", "--format", "webhooks", "--out", str(tmp_path), "--url", sidecar.url)
    assert result.exit_code == 1
    assert "stopped in the middle" in result.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "webhooks.jsonl": b"the one before\n"
    }


def test_an_export_reads_a_data_directory_of_a_sidecar_that_does_not_run(tmp_path: Path) -> None:
    fill(tmp_path / "state.db", [*apart(2), *apart(1, tenant="other", first=3)])
    for form, name in (("webhooks", "webhooks.jsonl"), ("jsonl", "incidents.jsonl")):
        result = run("export", "--format", form, "--data", str(tmp_path), "--out", str(tmp_path / "out"))
        assert result.exit_code == 0, result.output
        lines = (tmp_path / "out" / name).read_bytes().splitlines()
        assert sorted(json.loads(line)["tenant"] for line in lines) == ["default", "default", "other"]
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run("export", "--format", "jsonl", "--data", str(empty), "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "state.db" in result.output


def test_a_table_is_written_from_a_data_directory_or_by_the_api(sidecar: Sidecar, tmp_path: Path) -> None:
    fill(tmp_path / "state.db", [*apart(2), *apart(1, tenant="other", first=3)])
    out = tmp_path / "out"
    rows = [
        msgspec.to_builtins(each) for each in StateReader(tmp_path / "state.db").flat_incidents(None).items
    ]
    sidecar.answers["/api/v1/bi/incidents"] = (200, {"items": rows, "next": None})
    for where in (["--data", str(tmp_path)], ["--url", sidecar.url]):
        for form in ("csv", "parquet"):
            result = run("export", "--format", form, "--out", str(out), *where)
            assert result.exit_code == 0, result.output
            assert "3 rows" in result.stderr
        with (out / "incidents.csv").open(newline="") as file:
            found = list(csv.DictReader(file))
        assert [each["incident"] for each in found] == [each["incident"] for each in rows]
        assert found[0]["opened_at"] == rows[0]["opened_at"]
        with duckdb.connect(":memory:") as engine:
            written = engine.read_parquet(str(out / "incidents.parquet"))
            assert written.columns == list(found[0])
            assert dict(zip(written.columns, map(str, written.types), strict=True)).items() >= {
                "opened_at": "TIMESTAMP WITH TIME ZONE", "anomaly": "DOUBLE", "firings": "INTEGER", "degraded": "BOOLEAN",
                "state": "VARCHAR", "time_to_close_s": "DOUBLE", "verdict": "VARCHAR",
            }.items()  # fmt: skip
            assert written.aggregate("count(*), count(distinct tenant)").fetchall() == [(3, 2)]
    assert sorted(path.name for path in out.iterdir()) == ["incidents.csv", "incidents.parquet"]


def test_an_export_goes_back_as_far_as_asked(tmp_path: Path) -> None:
    fill(
        tmp_path / "state.db", [row(n, START + timedelta(hours=n), firing(f"A{n}", START)) for n in (1, 2, 3)]
    )
    since = stamp(START + timedelta(hours=2))
    run("export", "--format", "webhooks", "--since", since, "--data", str(tmp_path), "--out", str(tmp_path))
    assert len((tmp_path / "webhooks.jsonl").read_bytes().splitlines()) == 2


def recording(path: Path, *, is_bad: bool = False) -> Path:
    body = json.loads(webhook([alert({"alertname": "A", "severity": "critical"})]))
    path.write_text(json.dumps({"received_at": stamp(START), "body": body}) + ("\nbad\n" if is_bad else "\n"))
    return path


def test_a_replay_sums_up_and_writes(tmp_path: Path) -> None:
    path = recording(tmp_path / "one.jsonl")
    out = tmp_path / "out.jsonl"
    result = run("replay", str(path), "--no-models", "--incidents", str(out))
    assert result.exit_code == 0, result.output
    assert "in 1 incident (0 merged)" in result.output
    assert json.loads(out.read_bytes())["severity"] == "critical"
    told = json.loads(run("replay", str(path), "--no-models", "--json").stdout)
    assert (told["webhooks"], told["incidents"]) == (1, 1)


def test_a_replay_with_a_bad_line_exits_1_after_the_others(tmp_path: Path) -> None:
    path = recording(tmp_path / "one.jsonl", is_bad=True)
    result = run("replay", str(path), "--no-models")
    assert result.exit_code == 1
    assert f"{path}:2: not JSON" in result.stderr
    assert "in 1 incident (0 merged)" in result.stdout


def test_a_replay_of_nothing_readable_exits_1(tmp_path: Path) -> None:
    result = run("replay", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 1
    assert "No such file" in result.output


Write = Callable[[str], Path]


@pytest.fixture
def configuration(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "tocsin.yaml"
        path.write_text(text)
        return path

    return write


def test_a_good_configuration_is_said_to_be(configuration: Write) -> None:
    path = configuration(
        "destinations: [{name: file, kind: file, path: out.jsonl}]\nroutes: [{to: [file]}]\n"
    )
    result = run("check", str(path))
    assert result.exit_code == 0, result.output
    assert "good" in result.output
    assert json.loads(run("check", str(path), "--json").output)["good"] is True


def test_every_fault_of_a_configuration_is_told_with_its_line(configuration: Write) -> None:
    path = configuration("lisen: 1\ndestinations:\n  - {name: x, kind: fiel}\n")
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "tocsin.yaml:1:" in result.output
    assert "tocsin.yaml:3:" in result.output
    told = json.loads(run("check", str(path), "--json").output)
    assert told["good"] is False
    assert len(told["faults"]) == 2


def test_serve_refuses_a_bad_configuration(configuration: Write) -> None:
    result = run("serve", "--config", str(configuration("lisen: 1\n")))
    assert result.exit_code == 1
    assert "lisen" in result.output


def test_the_schema_needs_no_file() -> None:
    assert "properties" in json.loads(run("check", "--schema").output)
