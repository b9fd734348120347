from __future__ import annotations

import pytest

from bridge.app.admissions import EVERY_S, Admissions
from bridge.auth import Denied, Grant
from bridge.telemetry import Telemetry


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_flood_of_refusals_is_one_line_a_minute_and_every_one_is_counted(caplog: pytest.LogCaptureFixture):
    clock, telemetry = Clock(), Telemetry()
    admissions = Admissions(telemetry, clock)
    denied = Denied(shape="token", why="the token is not known")
    for number in range(1000):
        clock.now_s = number * 0.01
        admissions.turned_away(denied, "192.0.2.1")
    admissions.turned_away(Denied(shape="jwt", why="the token has expired"), "192.0.2.2")
    clock.now_s = EVERY_S + 1
    admissions.turned_away(denied, "192.0.2.3")
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "A request from 192.0.2.1 was turned away: the token is not known.",
        "A request from 192.0.2.2 was turned away: the token has expired.",
        "A request from 192.0.2.3 was turned away: the token is not known (999 more since the last such line).",
    ]
    assert telemetry.value("tocsin_admissions_total", shape="token", result="refused") == 1001


def test_who_is_let_in_is_counted_and_not_logged(caplog: pytest.LogCaptureFixture):
    telemetry = Telemetry()
    admissions = Admissions(telemetry, Clock())
    admissions.let_in(Grant(tenant="acme", role="sender", shape="password"))
    admissions.undecided("https://login.example.com/keys")
    assert telemetry.value("tocsin_admissions_total", shape="password", result="accepted") == 1
    assert telemetry.value("tocsin_admissions_total", shape="jwt", result="undecided") == 1
    assert not caplog.records
