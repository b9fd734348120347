"""What people read: names and places instead of fingerprints, links that lead somewhere."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from builders import START, at, episode, event

from bridge.model import FOUNDED, RootSuspect
from connectors import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"),
        (12_000, "3 h 20 min"), (86_400, "1 d"), (200_000, "2 d 7 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_said_as_people_say_it(seconds, words):
    assert wording.lasted(timedelta(seconds=seconds)) == words


def test_the_worst_alert_is_one_that_still_fires():
    over, fires = episode(number=0, ends_at=at(5)), episode(number=1)

    assert wording.worst(event(episodes=(over, fires))) is fires
    assert wording.worst(event(episodes=(over,))) is over
    assert wording.worst(event(episodes=0)) is None


def test_a_suspect_that_is_not_listed_is_said_to_be_that_and_is_no_fingerprint():
    other = RootSuspect(fingerprint="f" * 16, starts_at=START, confidence=0.5, why="it came first")

    assert wording.suspect(event(root=(other,))) == "an alert that is not listed (50%): it came first"
    assert wording.suspect(event(root=())) == ""
    assert wording.suspect(event(episodes=1)) == ""  # of one alert nothing is suspected


def test_of_two_firings_of_one_alert_the_suspected_one_is_named():
    early = episode(number=3, labels={"alertname": "Early"}, starts_at=at(1))
    late = episode(number=3, labels={"alertname": "Late"}, starts_at=at(9))
    suspected = RootSuspect(fingerprint=f"{3:016x}", starts_at=at(9), confidence=0.5, why="w")

    assert wording.suspect(event(episodes=(early, late), root=(suspected,))).startswith("Late ")


def test_why_it_is_one_incident_is_told_by_what_joined_not_by_what_began_it():
    assert wording.together(event()) == "HighLatency on 10.0.0.1:9100: same service within 30 s"
    assert wording.together(event(episodes=1)) == ""


def test_what_began_the_incident_is_no_reason_even_where_what_joined_had_begun_before():
    early = episode(number=1, labels={"alertname": "Early"}, starts_at=at(1), why="8 s from Late (p=0.90)")
    late = episode(number=2, labels={"alertname": "Late"}, starts_at=at(9), why=f"{FOUNDED}: a surge")
    assert wording.together(event(episodes=(late, early))) == "Early: 8 s from Late (p=0.90)"


def test_of_incidents_that_were_merged_the_merge_is_the_reason():
    one, other = (
        episode(number=number, labels={"alertname": name}, starts_at=at(number), why=why)
        for number, name, why in ((1, "One", FOUNDED), (2, "Other", f"{FOUNDED}; merged by ann"))
    )
    assert wording.together(event(episodes=(one, other))) == "Other: merged by ann"


@pytest.mark.parametrize(
    "url", ["", "javascript:alert(1)", "http://a b", "http://a|b", "https://a\nb", "//x"]
)
def test_what_is_no_web_address_is_not_linked(url):
    annotations = {"runbook_url": url}
    bare = event(episodes=(episode(annotations=annotations, generator_url=url),), url="")

    assert wording.links(bare) == []


def test_an_alert_that_flaps_says_how_often():
    text = wording.alert_text(msgspec.structs.replace(episode(), times=5, expired=True, disputed=True))

    assert text.endswith("above 2 s (fired 5 times, its resolve never came, perhaps a late copy)")
    assert wording.alert_text(episode()).endswith("above 2 s")
