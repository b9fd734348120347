"""Destinations as configured become connectors; the senders they need are made once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from msgspec.structs import replace

import connectors
from bridge.config import NOTHING_MORE, DestinationSettings, Settings
from bridge.delivery import Fallback, Policy, Retention
from bridge.dispatch import DispatchSettings
from bridge.model import Event
from bridge.ports import Append, Connector, Frames, Http, Mail, Notice, Publish, Sender, Table, Upsert
from bridge.redaction import NO_KEY, Redact, Redactors, redacted_event
from connectors.transport.files import FileSender
from connectors.transport.frames import FramesSender
from connectors.transport.http import HttpSender
from connectors.transport.lake import TableSender
from connectors.transport.mail import MailSender
from connectors.transport.notices import NoticeSender
from connectors.transport.publish import PublishSender
from connectors.transport.sql import UpsertSender

#: The longest wait of one event for a pager.
PAGING_CAP_S = 30.0


def connectors_of(destinations: Iterable[DestinationSettings]) -> dict[str, Connector]:
    """Return a connector per destination, by name.

    Raises:
        ConfigError: A kind is not installed.
    """
    return {each.name: connectors.make(each.kind, each.settings) for each in destinations}


def redactors_of(
    destinations: Iterable[DestinationSettings], key: bytes
) -> dict[str, Callable[[Event], Event]]:
    """Return by name what takes out of an event what a destination is not to have; those that have all are left out."""
    return {
        each.name: partial(_redacted, Redactors(key), each.redact)
        for each in destinations
        if each.redact != NOTHING_MORE
    }


def _redacted(redactors: Redactors, redact: Redact, event: Event) -> Event:
    return redacted_event(event, redactors.of(event.tenant, redact))


def marks_of(destinations: Iterable[DestinationSettings]) -> dict[str, str]:
    """Return by name something short that changes when a destination's settings do; no secret is in it.

    A secret is written anew for every attempt, so that another one needs no other mark.
    """
    return {
        each.name: hashlib.sha256(
            f"{each.kind} {each.settings.model_dump_json()} {each.redact}".encode()
        ).hexdigest()[:16]
        for each in destinations
    }


def dispatch_settings(
    settings: Settings, made: Mapping[str, Connector], *, stop_s: float, key: bytes = NO_KEY
) -> DispatchSettings:
    """Return how the dispatcher is to treat the destinations of `settings`, made into the connectors `made`.

    `key` is that of the hashes of what is redacted.
    """
    told = settings.delivery
    return DispatchSettings(
        stop_s=stop_s,
        policies={
            name: policy_of(connector, told.retry_horizons.get(name, told.retry_horizon_s))
            for name, connector in made.items()
        },
        marks=marks_of(settings.destinations),
        fallbacks={
            each.name: Fallback(to=each.fallback, after_s=each.fallback_after_s)
            for each in settings.destinations
            if each.fallback
        },
        redactors=redactors_of(settings.destinations, key),
        retention=Retention(dead_s=told.dead_s, max_dead=told.max_dead),
        max_waiting=told.max_waiting,
        attempt_timeout_s=told.timeout_s,
    )


def policy_of(connector: Connector, horizon_s: float | None) -> Policy:
    """Return how patient a destination is waited for; somebody who is to be woken is not left alone for long."""
    usual = Policy(retry_horizon_s=horizon_s, waits_s=connector.caps.waits_s)
    return replace(usual, backoff_cap_s=PAGING_CAP_S) if connector.caps.pages else usual


def senders() -> dict[type, Sender]:
    """Return one sender per protocol. Close them in the loop that they were used in."""
    return {
        Append: FileSender(),
        Frames: FramesSender(),
        Http: HttpSender(),
        Table: TableSender(),
        Mail: MailSender(),
        Notice: NoticeSender(),
        Publish: PublishSender(),
        Upsert: UpsertSender(),
    }
