"""Syslog messages as their receivers take them apart, and the verdicts on partial acceptance."""

from __future__ import annotations

import re

import pytest
from builders import episode, event, view
from destinations import NASTY, build
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model import Delivered, EventKind, Reject, Retry
from bridge.ports import FramesResponse
from connectors.common import one_line
from connectors.kinds.syslog import (
    SyslogSettings,
    escape_cef,
    escape_cef_header,
    escape_data,
    escape_leef,
    structured_data,
)

HEADER = re.compile(
    r"<(?P<pri>\d{1,3})>1 (?P<at>\S+) (?P<host>\S{1,255}) (?P<app>\S{1,48}) (?P<proc>\S+) (?P<msgid>\S{1,32}) "
    r"\[(?P<sd>(?:[^\]\\]|\\.)*)\] (?P<message>.*)",
    re.DOTALL,
)


def message(case: str, each, **changes) -> str:
    (frame,) = build(case, **changes).render([each], None, "").request.frames
    return frame.decode()


def read_data(text: str) -> dict[str, str]:
    """Return the params of an element, read as RFC 5424 section 6.3 says."""
    pairs = re.findall(r' ([^ ="\]]+)="((?:[^"\\\]]|\\["\\\]])*)"', text)
    return {key: re.sub(r'\\(["\\\]])', r"\1", value) for key, value in pairs}


def read_cef(text: str) -> tuple[list[str], dict[str, str]]:
    """Return header fields and extensions, read as the CEF guide says."""
    *header, extension = (
        re.split(r"(?<!\\)(?:\\\\)*\|", text, maxsplit=7) if "\\" not in text else split_header(text)
    )
    pairs = re.findall(r"(\w+)=((?:\\.|[^\\=])*?)(?= \w+=|$)", extension)
    unescape = {"\\n": "\n", "\\=": "=", "\\\\": "\\"}
    return header, {key: re.sub(r"\\.", lambda found: unescape[found[0]], value) for key, value in pairs}


def split_header(text: str) -> list[str]:
    fields, rest = [], text
    for _ in range(7):
        found = re.match(r"((?:\\.|[^\\|])*)\|", rest, re.DOTALL)
        assert found
        fields.append(re.sub(r"\\(.)", r"\1", found[1]))
        rest = rest[found.end() :]
    return [*fields, rest]


def read_leef(text: str) -> dict[str, str]:
    """Return the attributes of a LEEF 2.0 event with its own delimiter."""
    version, _vendor, _product, _release, _event_id, delimiter, attributes = text.split("|", 6)
    assert version == "LEEF:2.0"
    return dict(pair.split("=", 1) for pair in attributes.split(delimiter))


@given(st.text())
def test_structured_data_is_read_back(text):
    assert read_data(f' key="{escape_data(text)}"') == {"key": one_line(text)}


@given(st.text())
def test_a_cef_header_is_read_back(text):
    fields = split_header(f"CEF:0|Tocsin|Tocsin|1|id|{escape_cef_header(text)}|5|rt=1")

    assert fields[5] == one_line(text)


@given(st.text(), st.text(alphabet=st.characters(blacklist_categories=["Zs", "Cc"]), max_size=5))
def test_a_cef_extension_is_read_back(text, other):
    value = text.strip()  # receivers take the spaces around a value off
    header, pairs = read_cef(f"CEF:0|a|b|1|id|name|5|msg=x{escape_cef(value)}x act=y{escape_cef(other)}")

    assert header[4] == "id"
    lines = value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert pairs["msg"] == "x" + "\n".join(one_line(line) for line in lines) + "x"
    assert pairs["act"] == "y" + one_line(other)


@given(st.text())
def test_no_escaped_text_ends_a_line_or_an_attribute(text):
    for escaped in (escape_data(text), escape_cef_header(text), escape_cef(text), escape_leef(text)):
        assert escaped == one_line(escaped)
    assert "^" not in escape_leef(text)


def test_the_header_of_json_and_cef_is_rfc_5424():
    found = HEADER.fullmatch(message("syslog_cef", event(EventKind.CLOSED, 3, severity="warning")))

    assert found
    assert int(found["pri"]) == 16 * 8 + 5  # a notice: it is over
    assert (found["at"], found["host"], found["app"]) == ("2026-11-23T22:00:03.000000Z", "tocsin", "tocsin")
    assert (found["proc"], found["msgid"]) == ("-", "closed")
    assert found["message"].startswith("CEF:0|")  # no byte-order mark before it


def test_structured_data_names_event_and_incident():
    data = read_data(structured_data(event(EventKind.UPDATED, 5, anomaly=0.5), 32473))

    assert data["event_id"] == event(EventKind.UPDATED, 5).event_id
    assert (data["seq"], data["kind"], data["anomaly"], data["firing"]) == ("5", "updated", "0.5000", "2")


def test_a_hostile_cef_event_is_read_back_field_by_field():
    each = event(incident=view(title=NASTY, summary=NASTY))
    text = message("syslog_cef", each, max_message_bytes=8192)

    header, pairs = read_cef(text[text.index("CEF:") :])

    assert (header[4], header[5], header[6]) == ("incident.opened", one_line(NASTY), "10")
    assert pairs["externalId"] == each.event_id
    assert one_line(pairs["msg"].replace("\n", "\r\n")) == one_line(NASTY)
    assert (pairs["cn1Label"], pairs["cn1"]) == ("alertsTotal", "2")
    assert pairs["cs6"] == "HighLatency on 10.0.0.0:9100, HighLatency on 10.0.0.1:9100"
    assert (pairs["cs5"], pairs["cat"]) == ("HighLatency on 10.0.0.0:9100 (80%): it came first", "alerts")


def test_leef_has_the_short_header_and_caret_attributes():
    text = message("syslog", event(incident=view(title=NASTY)))
    head, _, leef = text.partition("LEEF:2.0")

    pairs = read_leef("LEEF:2.0" + leef)

    assert head == "<130>1 2026-11-23T22:00:01.000Z tocsin "
    assert pairs["title"] == one_line(NASTY).replace("^", " ")
    assert pairs["devTime"] == "1795471201000"
    assert 1 <= int(pairs["sev"]) <= 10


@pytest.mark.parametrize(
    ("severity", "open_is", "over_is"), [("critical", 10, 3), ("warning", 6, 2), ("info", 3, 1)]
)
def test_what_is_over_is_a_notice_of_low_severity_whatever_it_was(severity, open_is, over_is):
    """A rule on severity must not fire at the end of an incident."""
    told = {}
    for kind in (EventKind.OPENED, EventKind.CLOSED, EventKind.MERGED):
        cef = message("syslog_cef", event(kind, 3, severity=severity))
        leef = message("syslog", event(kind, 3, severity=severity))
        header, _ = read_cef(cef[cef.index("CEF:") :])
        told[kind] = (int(header[6]), int(read_leef(leef[leef.index("LEEF:") :])["sev"]))
        if kind is not EventKind.OPENED:
            assert cef.startswith("<133>1 ")
            assert leef.startswith("<133>1 ")

    assert told == {
        EventKind.OPENED: (open_is,) * 2,
        EventKind.CLOSED: (over_is,) * 2,
        EventKind.MERGED: (over_is,) * 2,
    }


@pytest.mark.parametrize(
    ("labels", "cef_key", "leef_key", "value"),
    [
        ({"instance": "db-1:9100"}, "dhost", "identHostName", "db-1"),
        ({"node": "db-1.example.com"}, "dhost", "identHostName", "db-1.example.com"),
        ({"instance": "10.1.2.3:9100"}, "dst", "dst", "10.1.2.3"),
        ({"instance": "[2001:db8::7]:9100"}, "dhost", "dst", "2001:db8::7"),
        ({"instance": "2001:db8::7"}, "dhost", "dst", "2001:db8::7"),
        ({"instance": "https://shop.example.com/health"}, "dhost", "identHostName", "shop.example.com"),
        ({"service": "checkout"}, None, None, None),
    ],
)
def test_the_machine_stands_where_a_siem_looks_for_it(labels, cef_key, leef_key, value):
    each = event(episodes=(episode(labels={"alertname": "Down"} | labels),), common_labels={})
    cef, leef = message("syslog_cef", each), message("syslog", each)
    _, cef_pairs = read_cef(cef[cef.index("CEF:") :])
    leef_pairs = read_leef(leef[leef.index("LEEF:") :])

    assert {key: cef_pairs[key] for key in ("dst", "dhost") if key in cef_pairs} == (
        {cef_key: value} if cef_key else {}
    )
    assert {key: leef_pairs[key] for key in ("dst", "identHostName") if key in leef_pairs} == (
        {leef_key: value} if leef_key else {}
    )
    assert cef_pairs["dvchost"] == "tocsin"
    assert cef_pairs["cat"] == leef_pairs["cat"] == "alerts"


def test_the_list_of_alerts_gives_way_first():
    small, large = (
        message("syslog_cef", event(episodes=100), max_message_bytes=size) for size in (2048, 16384)
    )

    assert small.split(" cs6=")[0].rsplit("cs5", 1)[0] == large.split(" cs6=")[0].rsplit("cs5", 1)[0]
    assert len(small.encode()) <= 2048 < len(large.encode())
    assert small.endswith("…")


def verdicts(count: int, response: FramesResponse) -> list[str]:
    connector = build("syslog_json")
    rendered = connector.render([event(EventKind.UPDATED, seq) for seq in range(1, count + 1)], None, "")
    return [type(verdict).__name__ for verdict in connector.judge(rendered, response)]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (FramesResponse(accepted=3), [Delivered, Delivered, Delivered]),
        (FramesResponse(accepted=1, refused="broke"), [Delivered, Retry, Retry]),
        (FramesResponse(accepted=1, refused="RELP 500", answered=True), [Delivered, Reject, Retry]),
        (FramesResponse(accepted=0, refused="RELP 500", answered=True), [Reject, Retry, Retry]),
        (FramesResponse(accepted=2), [Delivered, Delivered, Retry]),
        (FramesResponse(accepted=9), [Delivered, Delivered, Delivered]),
    ],
)
def test_what_was_accepted_is_delivered_and_the_rest_goes_again(response, expected):
    assert verdicts(3, response) == [verdict.__name__ for verdict in expected]


def test_a_refusal_by_relp_is_not_the_last_word():
    """It has one status for a message that is too large and for a disk that is full."""
    connector = build("syslog_json")
    rendered = connector.render([event()], None, "")

    refused = FramesResponse(accepted=0, refused="RELP 500 error", answered=True)

    assert tuple(connector.judge(rendered, refused)) == (Reject(reason="RELP 500 error", final=False),)


def test_only_relp_is_more_than_best_effort():
    assert build("syslog").caps.delivery_class == "best effort"
    assert build("syslog_json").caps.delivery_class == "at least once, deduplicate on event_id"


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "host"},
        {"address": ":514"},
        {"address": "host:0"},
        {"address": "host:70000"},
        {"transport": "udp"},
        {"format": "xml"},
        {"hostname": "two words"},
        {"max_message_bytes": 100},
        {"facility": 24},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValidationError):
        SyslogSettings(**({"name": "s", "address": "host:514", "transport": "tcp"} | wrong))
