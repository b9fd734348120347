"""Everything that no Alertmanager should send, at one real sidecar."""

from __future__ import annotations

import json
from collections.abc import Callable

from bodies import GOOD_WITH_FAULTS, HOPELESS
from sidecars import Sidecar, until

URL = "/v1/alertmanager"


def test_no_body_stops_a_sidecar_or_what_comes_behind_it(make: Callable[..., Sidecar]) -> None:
    sidecar = make()
    sidecar.start()
    analyst = sidecar.analyst()
    for name, (text, reason) in HOPELESS.items():
        status, answer = sidecar.ask("POST", URL, text)
        assert status == 400, name
        assert reason in json.loads(answer)["error"], name
    for name, text in GOOD_WITH_FAULTS.items():
        assert sidecar.ask("POST", URL, text) == (200, '{"received":1}'), name
    sidecar.send("Afterwards")
    until(lambda: sidecar.heard_of("Afterwards"), "the incident behind all of them")
    assert sidecar.metric('tocsin_intake_rejected_total{reason="payload"}') == len(HOPELESS)
    assert sidecar.metric("tocsin_webhooks_total") == len(GOOD_WITH_FAULTS) + 1
    quarantined = sidecar.metric('tocsin_quarantined_total{what="content"}')
    assert quarantined == len(HOPELESS) + 2, "and an alert that is none, and one with a megabyte in a label"
    assert sidecar.metric('tocsin_quarantined_total{what="row"}') == 0
    assert sidecar.analyst() == analyst
    assert sidecar.end() == 0
