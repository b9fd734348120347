"""What Tocsin says about itself: metrics, log lines, and that no secret gets into them."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bridge.telemetry import EVENTS, METRICS, JsonLines, Readable, Telemetry, document, mask, set_up_logging
from bridge.telemetry.exposition import SAVED_S, SHARE, Exposition
from bridge.telemetry.lines import QUIET_S, NotHttp

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("bridge.intake", logging.WARNING, __file__, 1, message, (), None)
    vars(made).update(extra)
    return made


def failed(error: Exception, **extra: object) -> logging.LogRecord:
    made = record("It failed.", event="job_failed", **extra)
    try:
        raise error
    except type(error):
        made.exc_info = sys.exc_info()
    return made


# ---- metrics ---------------------------------------------------------------------------------------------


def test_every_metric_is_in_the_documentation():
    assert (ROOT / "docs" / "metrics.md").read_text("utf-8") == document()


def test_names_follow_prometheus_customs():
    for metric in METRICS:
        assert metric.name.startswith("tocsin_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.meaning.endswith(".")
        assert not set(metric.labels) & {"le", "quantile"}
        # Whoever exceeds a quota is told so by a metric of its own; nothing else names a tenant.
        assert ("tenant" in metric.labels) == metric.name.startswith("tocsin_quota_")


def test_what_is_counted_is_shown_as_prometheus_reads_it():
    made = Telemetry()
    made.add("tocsin_intake_rejected_total", 2, reason="not_json")
    made.set("tocsin_destination_blocked", 1, destination="siem")
    made.observe("tocsin_commit_seconds", 0.003)
    made.watch("tocsin_inbox_queued_bytes", lambda: 12.0)
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(made.render().decode())
        for sample in family.samples
    }
    assert shown["tocsin_intake_rejected_total", "not_json"] == 2
    assert shown["tocsin_destination_blocked", "siem"] == 1
    assert shown["tocsin_commit_seconds_bucket", "0.005"] == 1
    assert shown["tocsin_inbox_queued_bytes",] == 12
    assert shown["process_resident_memory_bytes",] > 0
    assert not [name for name, *_ in shown if name.endswith("_created")]


def test_two_fronts_in_one_process_do_not_share_counters():
    one, other = Telemetry(), Telemetry()
    one.add("tocsin_webhooks_total")
    assert (one.value("tocsin_webhooks_total"), other.value("tocsin_webhooks_total")) == (1, 0)


def test_a_page_is_of_now_until_too_much_time_goes_into_it():
    now, made = [0.0], []

    def render() -> bytes:
        now[0] += 0.1  # as long as it takes
        made.append(now[0])
        return str(len(made)).encode()

    exposition = Exposition(render, clock=lambda: now[0])
    for scrape in range(1, 6):
        assert exposition.page() == str(scrape).encode()
        now[0] += 5.0
    made.clear()
    began = now[0]
    while now[0] < began + 60.0:
        exposition.page()
        now[0] += 0.001  # somebody who asks as fast as can be
    assert 0.1 * len(made) <= SAVED_S + SHARE * 60.0 + 0.2
    assert made[-1] > began + 58.0, "and what is told is never old"


def test_a_metric_that_is_not_in_the_table_does_not_exist():
    with pytest.raises(KeyError):
        Telemetry().add("tocsin_made_up_total")
    with pytest.raises(KeyError):
        Telemetry().set("tocsin_webhooks_total", 1)  # a counter is not a gauge


def test_a_destination_that_is_gone_leaves_no_series_behind():
    made = Telemetry()
    made.set("tocsin_dead_letters", 3, destination="old")
    made.set("tocsin_dead_letters", 4, destination="new")
    made.forget("tocsin_dead_letters", destination="old")
    assert b'destination="old"' not in made.render()
    assert made.value("tocsin_dead_letters", destination="new") == 4


# ---- logs ------------------------------------------------------------------------------------------------


def test_every_event_in_the_source_is_in_the_closed_list_and_every_one_listed_is_used():
    used = {event for path in _sources() for event in _events_of(path)}
    assert used <= set(EVENTS), sorted(used - set(EVENTS))
    assert set(EVENTS) - used == {"library"}


def test_every_own_log_call_names_its_event():
    bare = [f"{path.relative_to(ROOT)}:{call.lineno}" for path in _sources() for call in _log_calls(path)
            if "extra" not in {keyword.arg for keyword in call.keywords}]  # fmt: skip
    assert bare == []


def test_a_line_for_machines_is_one_json_object_with_its_event():
    line = JsonLines().format(
        record("Destination refuses us.", event="destination_blocked", destination="siem", tries=3)
    )
    assert "\n" not in line
    said = json.loads(line)
    assert said["event"] == "destination_blocked"
    assert (said["destination"], said["tries"], said["level"]) == ("siem", 3, "warning")
    assert said["message"] == "Destination refuses us."
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", said["at"])


def test_a_line_of_a_library_is_marked_as_such():
    assert json.loads(JsonLines().format(record("slow callback")))["event"] == "library"


#: What ends a line, speaks to a terminal or turns its direction, and bytes that are no UTF-8 as aiohttp hands them on.
NASTY = "\r\n\x00\x07\x1b[2J\x7f\x85\x9b31m\u2028\u2029\u202e\u2066\ufeff\udcff"


@given(st.text() | st.text(NASTY + 'ab"\\'))
@example(NASTY)
def test_no_text_breaks_a_line_or_reaches_the_terminal_unescaped(text: str):
    fields = {"reason": text, "named": {text: [text, {"deep": text}]}, "several": (text,)}
    made = record(text, event="library", **fields)
    line, shown = JsonLines().format(made), Readable().format(made)
    assert line.isprintable()
    assert shown.isprintable()
    said = json.loads(line)
    assert (said["reason"], said["message"], said["several"]) == (mask(text), mask(text), [mask(text)])
    line.encode()


@given(st.text() | st.text(NASTY + "ab"))
@example("oops\n12:00:00 info    Nothing to see here.")
def test_a_stranger_s_words_in_an_error_look_like_no_record_of_ours(text: str):
    made = failed(ValueError(text))
    line, (first, *rows) = JsonLines().format(made), Readable().format(made).split("\n")
    assert line.isprintable()
    assert all(row.isprintable() for row in (first, *rows))
    assert all(row.startswith("| ") for row in rows)


async def test_who_sends_nonsense_again_and_again_gets_one_line_for_all(root_logger: logging.Logger):
    assert root_logger.handlers
    said = []
    sieve = NotHttp()
    for at in (0.0, 1.0, QUIET_S - 0.1, QUIET_S + 0.1, 3 * QUIET_S):
        made = failed(BadHttpMessage("x"), args=("127.0.0.1",))
        made.created = at
        if sieve.filter(made):
            said.append(made.getMessage().partition("refused: ")[2][-40:])
    assert [each.rpartition("(")[2] for each in said] == [
        said[0],
        "2 more since the last such line)",
        said[2],
    ]
    assert sieve.filter(record("another"))


def test_what_is_nested_stays_json_and_is_masked_inside():
    made = record(
        "Sent.", event="delivery_attempt", results={"delivered": 1, "to": "https://host/SECRET"}, batch=[1, (2.5, None)],
        headers={"routing_key": "SECRETSECRET"}, flags={True},
    )  # fmt: skip
    said = json.loads(JsonLines().format(made))
    assert said["results"] == {"delivered": 1, "to": "https://host/..."}
    assert said["batch"] == [1, [2.5, None]]
    assert said["headers"] == {"routing_key": "***"}
    assert said["flags"] == "{True}"
    assert 'results={"delivered": 1, "to": "https://host/..."}' in Readable().format(made)


@pytest.mark.parametrize(
    "line", [b"GET /x y HTTP/9.9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\nBad\x00Header: c\r\n\r\n"]
)
async def test_what_is_no_http_is_one_line_and_no_error(line: bytes, root_logger: logging.Logger):
    stream = io.StringIO()
    set_up_logging(stream)
    runner = web.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0])
    writer.write(line)
    assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    writer.close()
    await runner.cleanup()
    [said] = map(json.loads, stream.getvalue().splitlines())
    assert (said["level"], said["event"]) == ("warning", "library")
    assert re.match(r"A request from 127\.0\.0\.1 is not HTTP and was refused: \w+ .{8}", said["message"])
    assert "traceback" not in said
    assert root_logger.handlers


def test_an_error_keeps_its_traceback_and_loses_its_secrets():
    made = failed(ValueError("POST https://hooks.slack.com/services/T0/B0/xoxSECRETx failed"))
    for line in (JsonLines().format(made), Readable().format(made)):
        assert "test_telemetry" in line
        assert "hooks.slack.com" in line
        assert "SECRET" not in line
    assert json.loads(JsonLines().format(made))["error_type"] == "ValueError"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("GET https://user:SECRET@host:8088/path?token=SECRET", "GET https://host:8088/..."),
        ("Authorization: Bearer SECRETSECRET", "Authorization: Bearer ***"),
        ("Authorization: Splunk SECRET-SECRET-1", "Authorization: Splunk ***"),
        ("{'routing_key': 'SECRETSECRET'}", "{'routing_key': '***'}"),
        ("tcp://rsyslog:514 refused", "tcp://rsyslog:514 refused"),
        ("a token is missing", "a token is missing"),
    ],
)
def test_what_is_masked_and_what_is_not(said: str, kept: str):
    assert mask(said) == kept


def test_a_pipe_gets_json_and_a_terminal_gets_text(root_logger: logging.Logger):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, begins in ((io.StringIO(), "{"), (Terminal(), "")):
        set_up_logging(stream)
        logging.getLogger("bridge.test").info("Here.", extra={"event": "front_ready"})
        logging.getLogger("somebody.else").info("Not here.")
        line = stream.getvalue()
        assert line.startswith(begins)
        assert "Here." in line
        assert "Not here." not in line
    assert "Here.  " in line.rstrip() + "  "
    assert root_logger.handlers


def _sources() -> list[Path]:
    return [path for room in ("bridge", "connectors") for path in sorted((ROOT / room).rglob("*.py"))]


def _events_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "event" and _in_log_call(path, node):
                    assert isinstance(value, ast.Constant), f"{path}:{value.lineno}: an event is written out"
                    yield value.value


def _in_log_call(path: Path, found: ast.Dict) -> bool:
    return any(
        keyword.arg == "extra" and keyword.value.lineno <= found.lineno <= (keyword.value.end_lineno or 0)
        for call in _log_calls(path)
        for keyword in call.keywords
    )


def _log_calls(path: Path) -> Iterator[ast.Call]:
    loud = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="logger" | "_LOG"), attr=said)) if (
                said in loud
            ):
                yield node
