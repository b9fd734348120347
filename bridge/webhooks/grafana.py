"""Grafana Alerting's webhook: Alertmanager's, and more of each alert.

Rules: those of `alertmanager`, which reads all that both have; the body's own `version`, `state`, `title` and `message`
are not looked at, for they tell of the group what its alerts tell better. What only Grafana says of an alert becomes
annotations, where the rule has none of that name: `dashboard_url`, `panel_url`, `silence_url`, `image_url`, and
`values` (what the rule's queries and expressions were, as `A=1.5, B=2`). All of it is for people, and what of it is not
of the usual form is passed over: no alert must go unheard for its decoration.

Decision: a kind of rows of its own instead of looking for these fields in every webhook. Which sender it is, the path
says, and an Alertmanager's alerts are not read twice for what they never have.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from bridge.model import Alert, Notification
from bridge.webhooks.alertmanager import MAX_ANNOTATIONS, parse_with, read_alert

#: Characters of one such annotation; longer ones are passed over.
MAX_CHARS = 2048
#: Values of one alert that are told. A rule has a handful.
MAX_VALUES = 32


class _Extra(msgspec.Struct, frozen=True, gc=False):
    """What Grafana says of an alert beside what Alertmanager says."""

    dashboard_url: Any = msgspec.field(default=None, name="dashboardURL")
    panel_url: Any = msgspec.field(default=None, name="panelURL")
    silence_url: Any = msgspec.field(default=None, name="silenceURL")
    image_url: Any = msgspec.field(default=None, name="imageURL")
    values: Any = None


_URLS = ("dashboard_url", "panel_url", "silence_url", "image_url")
_extra_decoder = msgspec.json.Decoder(_Extra)


def parse(body: bytes, *, tenant: str, source: str) -> Notification:
    """Return the webhook in `body`, as `alertmanager.parse` does.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    return parse_with(_alert, body, tenant=tenant, source=source)


def _alert(raw: msgspec.Raw, tenant: str, source: str) -> Alert:
    alert = read_alert(raw, tenant, source)
    try:
        sent = _extra_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # a number that no float holds
        return alert
    more = {name: text for name in _URLS if (text := _text(getattr(sent, name)))}
    if values := _values(sent.values):
        more["values"] = values
    room = MAX_ANNOTATIONS - sum(map(len, alert.annotations)) - sum(map(len, alert.annotations.values()))
    if not more or sum(map(len, more)) + sum(map(len, more.values())) > room:
        return alert
    return msgspec.structs.replace(alert, annotations=more | alert.annotations)


def _text(sent: object) -> str:
    return sent if type(sent) is str and len(sent) <= MAX_CHARS else ""


def _values(sent: object) -> str:
    """Return values as a person reads them, ordered by their names; "" where there are none, or too many."""
    if type(sent) is not dict or len(sent) > MAX_VALUES:
        return ""
    told = ", ".join(f"{name}={value:.6g}" for name, value in sorted(sent.items()) if _is_number(value))
    return told if len(told) <= MAX_CHARS else ""


def _is_number(value: object) -> bool:
    """Return whether a value can be told: a number that a float can hold, and neither true nor false."""
    if type(value) is int:
        return abs(value) < 1 << 1000
    return type(value) is float and math.isfinite(value)
