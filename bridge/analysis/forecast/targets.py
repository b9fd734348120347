"""Targets: what a forecast is about.

Decision: a room of their own, since the front shows them, and what forecasts loads numpy.
"""

from __future__ import annotations

from bridge.model import Aim, Word

LEAST_EVENTS = 20  # of a severity or a service, before it is a target


class Target(Word, frozen=True, order=True):
    """What a forecast is about."""

    aim: Aim
    name: str = ""


ANY = Target("any")
