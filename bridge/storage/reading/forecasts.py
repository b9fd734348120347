"""What is forecast for a tenant, and what is recommended because of it.

Rules: forecasts are as the analyst committed them. Recommendations are made when they are asked for, out of what is
stored: alerts that fire, and what is remembered of incidents that are over. Without a published forecast that still
holds there are none, and nothing of that is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

import msgspec

from bridge.analysis.feedback import Action
from bridge.analysis.forecast.targets import LEAST_EVENTS, Target
from bridge.analysis.forecast.trust import EARNED, Trust, TrustState
from bridge.analysis.precedents import MAX_SIGNS, Precedent, recalled, sign_of
from bridge.analysis.recommending import recommend
from bridge.analysis.reports import Record
from bridge.model import Episode, Forecast, Word


class _Forecaster(Word, frozen=True, kw_only=True):
    """What is told of an `analysis.forecast.ForecasterState`: all but what was learned."""

    trust: TrustState


class _Outlook(Word, frozen=True, kw_only=True):
    target: Target
    forecaster: _Forecaster
    newest: Forecast


def listed(store: sqlite3.Connection, tenant: str) -> list[Record]:
    """Return the newest forecast of each target: anything first, then services and severities."""
    return [_item(each) for each in _outlooks(store, tenant)]


def lacking(store: sqlite3.Connection | None, tenant: str) -> str | None:
    """Return what a forecast waits for; None where there is one."""
    if store is not None and next(_outlooks(store, tenant), None) is not None:
        return None
    question = "SELECT count(*) FROM incident WHERE tenant = ? AND origin IN ('alerts', 'heartbeat') LIMIT ?"
    number = store.execute(question, (tenant, LEAST_EVENTS)).fetchone()[0] if store is not None else 0
    if number >= LEAST_EVENTS:
        return "the first forecast is made at the next full hour after an incident closes"
    return f"{number} of {LEAST_EVENTS} incidents to learn from"


def recommended(store: sqlite3.Connection, tenant: str, now: datetime) -> list[Record]:
    """Return what to do about what is forecast, by forecast and then the best first."""
    holding = [
        each.newest for each in _outlooks(store, tenant) if each.newest.published and each.newest.until > now
    ]
    if not holding:
        return []
    precedents = [
        msgspec.msgpack.decode(row[0], type=Precedent)
        for row in store.execute("SELECT body FROM past WHERE tenant = ? ORDER BY incident", (tenant,))
    ]
    pasts, orders = recalled(precedents, _actions(store, tenant))
    signs = [sign_of(each) for each in _firing(store, tenant)]
    told: list[Record] = []
    for forecast in holding:
        about = {"aim": forecast.aim, "name": forecast.name or None, "until": forecast.until}
        told += [
            {"forecast": about, **msgspec.to_builtins(advice), "link": advice.link or None}
            for advice in recommend(forecast, signs, pasts, orders, now=now)
        ]
    return told


def _item(outlook: _Outlook) -> Record:
    newest = outlook.newest
    return {
        "aim": newest.aim,
        "name": newest.name or None,
        "at": newest.at,
        "until": newest.until,
        "probability": round(newest.probability, 4),
        "published": newest.published,
        "reasons": newest.reasons,
        "why_silent": newest.why_silent or None,
        "reference": round(newest.reference, 4),
        "expected": round(newest.expected, 2),
        "expected_low": round(newest.expected_low, 2),
        "expected_high": round(newest.expected_high, 2),
        "evidence": round(Trust(outlook.forecaster.trust).e_value, 2),
        "evidence_needed": EARNED,
    }


def _outlooks(store: sqlite3.Connection, tenant: str) -> Iterator[_Outlook]:
    for (body,) in store.execute(
        "SELECT body FROM outlook WHERE tenant = ? ORDER BY aim, name", (tenant,)
    ).fetchall():
        yield msgspec.msgpack.decode(body, type=_Outlook)


def _actions(store: sqlite3.Connection, tenant: str) -> Iterator[Action]:
    """Yield what people did in incidents that are remembered."""
    rows = store.execute(
        "SELECT body FROM action WHERE tenant = ? AND id IN"
        " (SELECT action FROM action_on JOIN past USING (tenant, incident) WHERE tenant = ?)",
        (tenant, tenant),
    )
    for (body,) in rows.fetchall():
        yield msgspec.msgpack.decode(body, type=Action)


def _firing(store: sqlite3.Connection, tenant: str) -> list[Episode]:
    rows = store.execute(
        "SELECT body FROM episode WHERE tenant = ? AND ends_at IS NULL"
        " ORDER BY source, fingerprint, starts_at LIMIT ?",
        (tenant, MAX_SIGNS),
    )
    return [msgspec.msgpack.decode(row[0], type=Episode) for row in rows]
