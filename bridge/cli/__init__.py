"""The command line. Each command says what it wants and hands over; the work is in `bridge.app`.

Rules: rooms are imported inside the command that needs them, so that `tocsin --help` is quick. Exit 0: good;
1: the thing asked for is bad; 2: the command was written wrongly. What a person reads goes through `screen`,
what a machine reads is JSON on stdout (`--json`); progress and faults go to stderr. A running sidecar is
changed only through its API, but for tokens: the first must come from somewhere.

`group` is the command itself, `options` what several commands share, `running` the commands that run something
here, `asking` those that ask a running sidecar, `tokens` those that mint and revoke.
"""

from __future__ import annotations

from bridge.cli.asking import deliveries, incidents, quarantine, status
from bridge.cli.erasing import erase
from bridge.cli.group import tocsin
from bridge.cli.running import backtest, check, demo, export, replay, score, serve
from bridge.cli.tokens import token

__all__ = [
    "backtest",
    "check",
    "deliveries",
    "demo",
    "erase",
    "export",
    "incidents",
    "quarantine",
    "replay",
    "score",
    "serve",
    "status",
    "tocsin",
    "token",
]
