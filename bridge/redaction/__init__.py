"""Redaction: what is taken out of alerts before they are kept, and before they leave.

Rules: pure; no clock, no randomness, no I/O. It acts in one place, where a row of the inbox becomes something that is
thought about (`bridge.pipeline.redacting`), and again for each destination that is to know less (`redacted_event`).

Rooms: `terms` are the settings, `detectors` find by form, `redactor` puts both to work, `events` knows an event.
"""

from __future__ import annotations

from bridge.redaction.events import redacted_event
from bridge.redaction.redactor import COUNTED, NO_KEY, Redactor, Redactors, compiled, key_of, takes
from bridge.redaction.terms import KINDS, Kind, Redact, Rule, RuleAction, Treatment

__all__ = [
    "COUNTED", "KINDS", "NO_KEY", "Kind", "Redact", "Redactor", "Redactors", "Rule", "RuleAction", "Treatment",
    "compiled", "key_of", "redacted_event", "takes",
]  # fmt: skip
