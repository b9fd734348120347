"""Ranking: the order in which the alerts of an incident are told and suspected: most severe, then earliest.

Rule: nothing heavy is loaded here; the front reads incidents, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from bridge.model import SEVERITY_RANK, Severity

MAX_SUSPECTS = 5


class Alarm(Protocol):
    """What is looked at of one alert of an incident: its first episode."""

    @property
    def source(self) -> str:
        """From which Alertmanager."""

    @property
    def fingerprint(self) -> str:
        """Alertmanager's own."""

    @property
    def starts_at(self) -> datetime:
        """When it began, by its sender."""

    @property
    def seen_at(self) -> datetime:
        """When it was heard."""

    @property
    def labels(self) -> Mapping[str, str]:
        """As they were sent."""

    @property
    def template(self) -> str:
        """The id of its text."""

    @property
    def severity(self) -> Severity:
        """What its label counts as."""


def importance(alert: Alarm) -> tuple[int, datetime, str, str]:
    """Return the sort key "most severe, then earliest", ties by identity."""
    return (-SEVERITY_RANK[alert.severity], alert.starts_at, alert.fingerprint, alert.source)
