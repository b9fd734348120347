"""From configured destinations to what the dispatcher is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import connectors
from bridge import config
from bridge.app.destinations import connectors_of, dispatch_settings, marks_of
from bridge.app.kinds import known_kinds
from bridge.config import Settings
from bridge.delivery import Fallback
from bridge.errors import ConfigError

SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOOK = f"{{name: own, kind: callback, url: 'https://a', secret: {SIGNING}}}"
PAGER = "{name: pager, kind: pagerduty, routing_key: '%s'}"
CHAT = "{name: chat, kind: slack, token: xoxb-0, channel: '%s'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def load(folder: Path, *destinations: str, more: str = "") -> Settings:
    path = folder / "tocsin.yaml"
    path.write_text("destinations:\n" + "".join(f"  - {each}\n" for each in destinations) + more)
    return config.load(path, known_kinds(), {})


def test_a_mark_changes_with_the_settings_and_shows_no_secret(folder: Path) -> None:
    first = marks_of(load(folder, CHAT % "#a", PAGER % ("a" * 32)).destinations)
    channel = marks_of(load(folder, CHAT % "#b", PAGER % ("a" * 32)).destinations)
    secret = marks_of(load(folder, CHAT % "#a", PAGER % ("b" * 32)).destinations)

    assert first["chat"] != channel["chat"]
    assert first["pager"] == channel["pager"]
    # A secret is written anew for each attempt: what is frozen needs no other bytes.
    assert first == secret
    assert "a" * 32 not in str(first)


def test_a_pager_is_not_left_alone_as_long_as_others(folder: Path) -> None:
    settings = load(folder, CHAT % "#a", PAGER % ("a" * 32))
    told = dispatch_settings(settings, connectors_of(settings.destinations), stop_s=3.0)

    assert (told.policy("pager").backoff_cap_s, told.policy("chat").backoff_cap_s) == (30.0, 300.0)
    assert (told.stop_s, set(told.marks)) == (3.0, {"pager", "chat"})


def test_a_callback_waits_as_standard_webhooks_recommends(folder: Path) -> None:
    settings = load(folder, CHAT % "#a", HOOK)
    told = dispatch_settings(settings, connectors_of(settings.destinations), stop_s=3.0)

    waits = [told.policy("own").wait_s(attempts, 0.0, None, urgent=True) for attempts in range(1, 12)]

    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, 86400, 86400]
    assert told.policy("own").wait_s(1, 1.0, None) == 5.5
    assert told.policy("own").wait_s(1, 0.0, 40.0) == 40.0
    assert told.policy("chat").waits_s == ()


def test_how_long_and_how_much_is_kept_is_handed_on(folder: Path) -> None:
    more = (
        "delivery: {retry_horizon: 7d, retry_horizons: {chat: 24h}, timeout: 5s, max_waiting: 100, max_dead: 7,"
        " dead: 1d}\n"
    )
    settings = load(folder, CHAT % "#a", PAGER % ("a" * 32), more=more)
    told = dispatch_settings(settings, connectors_of(settings.destinations), stop_s=3.0)

    assert (told.policy("chat").retry_horizon_s, told.policy("pager").retry_horizon_s) == (
        86400.0,
        7 * 86400.0,
    )
    assert (told.attempt_timeout_s, told.max_waiting) == (5.0, 100)
    assert (told.retention.max_dead, told.retention.dead_s) == (7, 86400.0)


def test_a_horizon_for_a_destination_that_does_not_exist_is_a_fault(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"delivery.retry_horizons.chatt: unknown destination; did you mean `chat`"
    ):
        load(folder, CHAT % "#a", more="delivery: {retry_horizons: {chatt: 1h}}\n")


def test_a_kind_whose_extra_is_missing_breaks_nobody_else_and_names_it(folder, monkeypatch) -> None:
    monkeypatch.setitem(connectors.MODULES, "azure", ("no_such_package.identity",))
    sentinel = json.dumps(connectors.described("sentinel").example)

    assert load(folder, PAGER % ("a" * 32)).destinations[0].kind == "pagerduty"
    with pytest.raises(
        ConfigError, match=r'destinations.sentinel.kind: needs more: pip install "tocsin\[azure\]"'
    ):
        load(folder, sentinel)
    with pytest.raises(ConfigError, match="a destination of kind 'sentinel' needs more"):
        connectors.load("sentinel")


LOG = "{name: log, kind: file, path: ./log, %s}"


def test_a_fallback_is_handed_on(folder: Path) -> None:
    settings = load(folder, CHAT % "#a", LOG % "fallback: chat, fallback_after: 10m")
    told = dispatch_settings(settings, connectors_of(settings.destinations), stop_s=3.0)

    assert told.fallbacks == {"log": Fallback(to="chat", after_s=600.0)}


@pytest.mark.parametrize(
    ("fallbacks", "what"),
    [
        (("fallback: chatt",), "unknown destination; did you mean `chat`"),
        (("fallback: log",), r"log -> log"),
        (("fallback: b", "name: b, fallback: log"), r"log -> b -> log"),
    ],
)
def test_a_fallback_that_does_not_exist_or_leads_back_is_a_fault(
    folder: Path, fallbacks: tuple[str, ...], what: str
) -> None:
    first, *others = fallbacks
    more = [f"{{kind: file, path: ./b, {each}}}" for each in others]

    with pytest.raises(ConfigError, match=rf"destinations.*fallback: .*{what}"):
        load(folder, CHAT % "#a", LOG % first, *more)


def test_a_destination_that_is_only_a_fallback_is_no_mistake(folder: Path) -> None:
    settings = load(folder, CHAT % "#a", LOG % "fallback: chat", more="routes: [{to: [log]}]\n")

    assert settings.notes == ()
