"""The demo: its storm is what Alertmanager would send, and it plays to its end by itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from builders import event
from stores import fill, row
from timeline import START

from bridge.app.demo import as_in_chat, forecast_lines
from bridge.app.recordings import Recorded, understand
from bridge.app.storm import END_S, PEERS, REPAIRED_AT_S, alarms, calls, past
from bridge.model import FOUNDED, Event
from bridge.pipeline.events import UPDATE_EVERY_S
from bridge.storage.reading import StateReader
from bridge.webhooks import alertmanager, envelope

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_storm_is_good_webhooks_of_a_realistic_size() -> None:
    script = calls(START)
    parsed = [alertmanager.parse(call.body, tenant="default", source="default") for call in script]
    assert not any(notification.faults for notification in parsed)
    assert all(envelope.check(call.body) == call.firing + call.resolved for call in script)
    assert 60 <= len(alarms()) <= 120
    assert script[-1].at_s < END_S <= 40
    assert [call.at_s for call in script] == sorted(call.at_s for call in script)


def test_every_alert_of_the_storm_is_told_and_told_to_have_ended() -> None:
    fired: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for call in calls(START):
        for each in alertmanager.parse(call.body, tenant="default", source="default").alerts:
            (fired if each.firing else ended)[each.fingerprint] += 1
    assert len(fired) == len(alarms())
    assert len(ended) == len(alarms()) - 1, "the certificate is nobody's storm"


def test_the_second_alertmanager_says_only_what_the_first_said() -> None:
    said: set[bytes] = set()
    peers = 0
    for call in calls(START):
        plain = call.body.replace(call.peer.encode(), b"")
        if call.peer == PEERS[1]:
            assert plain in said
            peers += 1
        said.add(plain)
    assert peers > 5


def test_the_past_is_a_good_recording_of_small_incidents_that_are_over() -> None:
    lines = [understand(line, tenant="default") for line in past(START)]
    assert all(isinstance(line, Recorded) and line.received_at < START for line in lines)
    assert len(lines) == 96
    assert sum(line.alerts for line in lines if isinstance(line, Recorded)) == 96


def test_nothing_is_resolved_before_the_repair() -> None:
    assert all(call.at_s >= REPAIRED_AT_S for call in calls(START) if call.resolved)


def test_the_storm_lasts_until_an_incident_may_say_what_is_new() -> None:
    opens = next(call for call in calls(START) if call.group.startswith("NodeDiskIOErrors"))
    last = max(alarm.fires_s for alarm in alarms())
    assert opens.at_s + UPDATE_EVERY_S < REPAIRED_AT_S
    assert last < opens.at_s + UPDATE_EVERY_S, "the update speaks of all of it"


def test_the_storms_incident_explains_itself_wherever_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    fill(
        path,
        [row(n, START + timedelta(seconds=each.at_s), each.body) for n, each in enumerate(calls(START), 1)],
    )
    reader = StateReader(path)
    largest = max(reader.incidents(None).items, key=lambda item: item["episode_count"])
    shown = reader.incident("default", largest["incident"])
    assert shown is not None
    told = {each["why"] for each in shown["episodes"]}
    assert len(shown["episodes"]) > 60
    assert [why for why in told if why.startswith(FOUNDED)] == [FOUNDED]
    joined = told - {FOUNDED}
    assert all(
        re.search(r"^(same .+; )?\d+ s after the newest alert, without a surge in between$", why)
        for why in joined
    ), "with their numbers"

    replayed = [json.loads(line) for line in reader.incident_lines(None).lines]
    whole = next(each for each in replayed if each["incident"] == largest["incident"])
    assert {each["why"] for each in whole["episodes"]} == told
    assert whole["root"][0]["why"]

    height = max(
        (msgspec.json.decode(body, type=Event) for body in shown["events"]),
        key=lambda each: each.incident.alerts_firing,
    )
    reasons = [line for line in as_in_chat(height) if line.startswith("One incident because: ")]
    assert len(reasons) == 1
    assert any(reasons[0].endswith(why) for why in joined)


@pytest.mark.timeout(150)
def test_the_demo_plays_to_its_end_and_leaves_nothing(tmp_path: Path) -> None:
    """The whole program, at the pace that people see: an update comes half a minute after the beginning."""
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "demo"],
        capture_output=True, text=True, timeout=140, check=False,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    out = [line.partition("OUT ==>")[2] for line in result.stdout.splitlines() if "OUT ==>" in line]
    assert [line.split()[:2] for line in out] == [
        ["opened", "warning"], ["opened", "critical"], ["updated", "critical"], ["closed", "critical"],
    ]  # fmt: skip
    assert "CertificateExpiresSoon" in out[0]
    assert "(76 alerts)" in out[2]
    assert "Came in:   87 webhooks with 233 alerts: 77 different ones" in result.stdout
    assert "Went out:  2 incidents in 4 messages" in result.stdout
    sums = re.search(r"^Came in:.*?^Went out:.*?$", README, re.DOTALL | re.MULTILINE)
    assert sums, "the README shows them"
    assert sums[0] in result.stdout
    for words in (
        "At its height it said:",
        "Probably came first:",
        "Why they are one incident, for example:",
    ):
        assert words in README
        assert words in result.stdout
    message = [line for line in result.stdout.splitlines() if line.startswith("  │ ")]
    assert message[0].startswith("  │ 🔴 ")
    assert any("76 of 76 alerts firing" in line for line in message)
    assert "closed, lasted" in result.stdout
    scored = re.findall(r"Anomaly score (0\.9\d): stranger than 9\d% of 4\d incidents:", result.stdout)
    assert len(scored) == 2, "it knows three ordinary days"
    assert "Anomaly score 0.9" in README
    assert re.search(r"^Looking ahead: another incident is \d+% likely until 20", result.stdout, re.MULTILINE)
    assert "  Not published, no skill here:" in result.stdout, "three days are too few to claim anything"
    assert "  Not published, no skill here:" in README
    assert result.stdout.count("  in   ") < 25, "what goes out does not drown"
    assert re.search(r"in   … \d+ more webhooks: \d+ resolved\n", result.stdout)
    assert "\x1b" not in result.stdout, "no colours where nobody sees them"
    assert list(tmp_path.iterdir()) == []
    assert result.stderr == ""


def test_a_message_is_shown_without_slacks_markup() -> None:
    shown = event(
        title="<b> & co", url="https://tocsin.example.com/x", summary="one\ntwo", severity="critical"
    )
    lines = list(as_in_chat(shown))
    assert lines[:3] == ["🔴 <b> & co", "one", "two"]
    assert "· Source ·" in lines[-1]
    assert not any("date^" in line or "https:" in line or "*" in line for line in lines)


def test_a_forecast_is_shown_with_its_reasons_or_why_nothing_is_claimed() -> None:
    item = {
        "aim": "any", "until": "2026-01-05T07:00:00Z", "probability": 0.624, "expected_low": 0.4,
        "expected_high": 4.8, "published": True, "reasons": ["the last incident began 1 hour ago: 2.4 times the odds"],
        "why_silent": None,
    }  # fmt: skip
    other = item | {"aim": "service"}
    assert list(forecast_lines({"items": [other, item], "lacking": None})) == [
        "Looking ahead: another incident is 62% likely until 2026-01-05 07:00:00Z, 0 to 5 are expected.",
        "  the last incident began 1 hour ago: 2.4 times the odds",
    ]
    silent = item | {"published": False, "reasons": [], "why_silent": "no skill here: so it is"}
    assert list(forecast_lines({"items": [silent], "lacking": None}))[1:] == [
        "  Not published, no skill here: so it is"
    ]
    assert list(forecast_lines({"items": [], "lacking": "7 of 20 incidents to learn from"})) == [
        "Looking ahead: nothing yet, 7 of 20 incidents to learn from."
    ]
