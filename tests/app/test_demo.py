"""The demo: its storm is what Alertmanager would send, and it plays to its end by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from timeline import START

from bridge.app.storm import PEERS, REPAIRED_AT_S, alarms, calls
from bridge.webhooks import alertmanager, envelope


def test_the_storm_is_good_webhooks_of_a_realistic_size() -> None:
    script = calls(START)
    parsed = [alertmanager.parse(call.body, tenant="default", source="default") for call in script]
    assert not any(notification.faults for notification in parsed)
    assert all(envelope.check(call.body).alerts == call.firing + call.resolved for call in script)
    assert 60 <= len(alarms()) <= 120
    assert script[-1].at_s < 20
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


def test_nothing_is_resolved_before_the_repair() -> None:
    assert all(call.at_s >= REPAIRED_AT_S for call in calls(START) if call.resolved)


def test_the_demo_plays_to_its_end_and_leaves_nothing(tmp_path: Path) -> None:
    """The whole program at eight times the speed: front, analyst, file destination, API, and the end of all."""
    result = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--speed", "8"],
        capture_output=True, text=True, timeout=55, check=False,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Came in:   72 webhooks with 180 alerts: 77 different ones" in result.stdout
    assert "Went out:  2 incidents" in result.stdout
    assert "(76 alerts)" in result.stdout
    assert "closed, lasted" in result.stdout
    assert "\x1b" not in result.stdout, "no colours where nobody sees them"
    assert list(tmp_path.iterdir()) == []
    assert json.dumps(result.stderr) == '""'
