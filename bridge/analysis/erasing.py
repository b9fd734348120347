"""Erasing: which alerts are meant, and how their words are taken out of what is left.

Rules: an alert is meant when it carries the label, has the fingerprint, or, where neither is named, is the tenant's,
and came in time. What is meant goes whole. Everything else of the tenant stays and loses the erased value: wherever it
stands as a whole word it becomes `MASK`; an entry of a table that is named after it goes. Of one value nothing is
derived but what it is without its port, since a host is remembered by that. Words of fewer than `LEAST_MASKED`
characters, and those that every alert text has (`PLAIN_WORDS`), are masked only where they are all of a text.

What an erase cannot tell from what others did stays: counts, rates, weights and hashes, which name nobody.

Decision: the row that asks for it (`Erase`) holds the value itself, not a keyed digest. A digest finds a label that is
equal, but not the host in a title, a note, a template or a page that waits to be sent; and whoever has the digest and
its key can try all host names in a second. The row is emptied when everything is done (`sealed`), so that a value lives
on in it for no longer than in what is being erased.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from bridge.analysis.entities import tokens_of
from bridge.analysis.incidents import Group, Progress, worst
from bridge.analysis.text import PLAIN_WORDS
from bridge.model import CausalGraph, Episode, Event, Incident, Word

#: What stands where something was erased.
MASK = "[erased]"
LEAST_MASKED = 3
MAX_ERASED = 1_000  # characters of what is named
#: How deep an alert is looked for in a member of a list.
DEPTH = 6
#: Fields of our words that are no texts: identities, choices among a few, and names out of the configuration.
FIXED = frozenset((
    "about", "action", "actions", "aim", "event_id", "family", "fingerprint", "id", "incident", "kind", "matched",
    "merged_into", "model", "origin", "over", "schema", "seq", "severity", "source", "split_from", "state",
    "suppressed", "template", "tenant", "told", "undoes", "verdict", "way", "word",
))  # fmt: skip
_PORT = re.compile(r":\d{1,5}$")
_pack = msgspec.msgpack.Encoder().encode
WordT = TypeVar("WordT")
_Named = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ERASED)]


class Label(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A label that alerts carry."""

    name: _Named
    value: _Named


class Erase(Word, frozen=True, kw_only=True):
    """What is to be erased of one tenant: the body of a `RowKind.ERASE` row."""

    id: str
    label: Label | None = None
    fingerprint: str = ""
    before: datetime | None = None  # what came later stays; None: all that came before the row
    #: Of the alerts that are meant, as far as they were stored when it was asked for: some are kept without labels.
    fingerprints: tuple[str, ...] = ()
    sealed: bool = False  # it is done, and what it named is gone

    @property
    def by(self) -> str:
        """By what it chooses: label, fingerprint or tenant."""
        if self.label is not None:
            return "label"
        return "fingerprint" if self.fingerprint else "tenant"


def sealed(erase: Erase) -> Erase:
    """Return what may stay of one that is done."""
    return Erase(id=erase.id, sealed=True)


class Eraser:
    """Finds what one erase means, and takes it out."""

    def __init__(
        self,
        erase: Erase,
        until: datetime,
        *,
        fingerprint_of: Callable[[dict[str, str]], str] = lambda _labels: "",
    ) -> None:
        """Prepare.

        Args:
            erase: What is meant.
            until: The newest time of what is meant where the erase names none.
            fingerprint_of: Returns that of labels: not all who send webhooks send it, too.
        """
        self.erase = erase
        self.until = until if erase.before is None else min(erase.before, until)
        self.everything = erase.by == "tenant"
        self._fingerprint_of = fingerprint_of
        self._fingerprints = frozenset((erase.fingerprint, *erase.fingerprints)) - {""}
        self._values = _values_of(erase)
        words = [value for value in self._values if _is_telling(value)]
        self._pattern = re.compile("|".join(map(_as_word, words))) if words else None
        self._bytes = [value.encode("utf-8", "surrogatepass") for value in self._values]

    @property
    def is_all(self) -> bool:
        """Whether nothing of the tenant is to be left."""
        return self.everything and self.erase.before is None

    # ---- who is meant ----------------------------------------------------------------------------------------

    def means(self, labels: Mapping[str, str], fingerprint: str, at: datetime) -> bool:
        """Say whether an alert that came at `at` is meant."""
        return at <= self.until and self.is_of(labels, fingerprint)

    def means_episode(self, episode: Episode) -> bool:
        """Say whether an episode is meant."""
        return self.means(episode.labels, episode.fingerprint, episode.seen_at)

    def is_of(self, labels: Mapping[str, str], fingerprint: str) -> bool:
        """Say whether an alert is meant, whenever it came."""
        label = self.erase.label
        if label is not None and labels.get(label.name) == label.value:
            return True
        return self.everything or fingerprint in self._fingerprints

    # ---- what is said of them --------------------------------------------------------------------------------

    def mentions(self, text: str) -> bool:
        """Say whether a text names what is erased."""
        return self.masked(text) != text

    def masked(self, text: str) -> str:
        """Return a text without what is erased."""
        if text in self._values:
            return MASK
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def is_in(self, raw: bytes) -> bool:
        """Say whether bytes hold the value as it is; quick, and blind to how JSON may write it."""
        return any(value in raw for value in self._bytes)

    def clean(self, thing: Any) -> Any:
        """Return decoded JSON without what is erased.

        Members of lists that are, or hold, an alert that is meant go whole; keys that name what is erased go with what
        is under them. The time of things is not looked at.
        """
        if isinstance(thing, str):
            return self.masked(thing)
        if isinstance(thing, list):
            return [self.clean(each) for each in thing if not self._is_meant(each)]
        if not isinstance(thing, dict):
            return thing
        cleaned = {key: self.clean(value) for key, value in thing.items() if not self.mentions(key)}
        if thing.get("alerts") and not cleaned.get("alerts"):
            return {"version": "4", "alerts": []}  # what was common to them told of them
        return cleaned

    def _is_meant(self, thing: Any, depth: int = 0) -> bool:
        if not isinstance(thing, dict) or depth > DEPTH:
            return False
        labels = _labels_of(thing.get("labels"))
        named = thing.get("fingerprint") or ""
        if (labels or named) and self.is_of(labels, str(named or self._fingerprint_of(labels))):
            return True
        return any(self._is_meant(each, depth + 1) for each in thing.values())

    def word(self, word: WordT) -> WordT:
        """Return one of our words without what is erased; the same object where it does not name it."""
        return self._without(word) if self.is_in(_pack(word)) else word

    def _without(self, thing: Any) -> Any:
        """Return a part of a word with its texts masked; identities and what has a fixed choice of values stay."""
        if type(thing) is str:  # an enumeration is none
            return self.masked(thing)
        if isinstance(thing, dict):
            return {
                key: self._without(value)
                for key, value in thing.items()
                if type(key) is not str or not self.mentions(key)
            }
        if isinstance(thing, msgspec.Struct):
            fields = {
                name: self._without(getattr(thing, name))
                for name in thing.__struct_fields__
                if name not in FIXED or isinstance(getattr(thing, name), msgspec.Struct)
            }
            return replace(thing, **fields)
        if isinstance(thing, list | tuple | set | frozenset):
            if isinstance(thing, tuple) and thing and isinstance(thing[-1], datetime):
                return thing  # the key of an episode
            each = [self._without(each) for each in thing]
            return type(thing)(*each) if hasattr(thing, "_fields") else type(thing)(each)
        return thing

    def body(self, raw: bytes) -> bytes | None:
        """Return a JSON body without what is erased; None where it cannot be read and may hold it."""
        try:
            thing = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        cleaned = self.clean(thing)
        return raw if cleaned == thing else msgspec.json.encode(cleaned)

    def touches(self, raw: bytes) -> bool:
        """Say whether bytes, which may be anything, are meant or hold what is erased."""
        if self.everything:
            return True
        try:
            thing = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self.is_in(raw)
        return self._is_meant(thing) or self.clean(thing) != thing


def blank_event(event: Event, eraser: Eraser) -> Event:
    """Return an event of an incident that held what is erased: its place, its times and what is left in it."""
    view = event.incident
    left = tuple(each for each in view.episodes if not eraser.is_of(each.labels, each.fingerprint))
    stay = {each.fingerprint for each in left}
    words = replace(
        view, title=MASK, summary="", common_labels={}, anomaly_reason="",
        episodes=tuple(map(eraser.word, left)),
        root=tuple(eraser.word(each) for each in view.root if each.fingerprint in stay),
    )  # fmt: skip
    return replace(eraser.word(replace(event, incident=words)), note=msgspec.UNSET, author=msgspec.UNSET)


def _labels_of(labels: Any) -> dict[str, str]:
    """Return labels as a table; the event recorder sends them as pairs."""
    if isinstance(labels, dict):
        return labels if all(isinstance(value, str) for value in labels.values()) else {}
    pairs = labels if isinstance(labels, list) else ()
    return {str(pair.get("key")): str(pair.get("value")) for pair in pairs if isinstance(pair, dict)}


def _values_of(erase: Erase) -> tuple[str, ...]:
    """Return what must not be read any more."""
    if erase.label is None:
        return (erase.fingerprint,) if erase.fingerprint else ()
    value = erase.label.value
    return tuple(dict.fromkeys((value, _PORT.sub("", value) or value)))


def _is_telling(value: str) -> bool:
    return len(value) >= LEAST_MASKED and value.lower() not in PLAIN_WORDS


def _as_word(value: str) -> str:
    """Return a pattern for a value that is not part of a longer word."""
    before = r"(?<![^\W_])" if value[0].isalnum() else ""
    after = r"(?![^\W_])" if value[-1].isalnum() else ""
    return before + re.escape(value) + after


def blank_incident(head: Incident) -> Incident:
    """Return an incident of which nothing is left: its place and its times."""
    return replace(
        head, title=MASK, summary="", common_labels={}, root=(), graph=CausalGraph(), alerts_total=0, alerts_firing=0,
        anomaly=replace(head.anomaly, reason=""),
    )  # fmt: skip


class Parted(NamedTuple):
    """What an erase leaves of an incident."""

    group: Group  # counted anew; its title and summary are those of before
    meant: tuple[Episode, ...]  # that go
    masked: tuple[Episode, ...]  # that stay, without a word


def parted(head: Incident, progress: Progress, episodes: Iterable[Episode], eraser: Eraser) -> Parted | None:
    """Return what is left of an incident, None if nothing of it is erased. Cost grows with its episodes."""
    meant: list[Episode] = []
    kept: list[Episode] = []
    masked: list[Episode] = []
    for each in episodes:
        if eraser.means_episode(each):
            meant.append(each)
            continue
        left = each if each.seen_at > eraser.until else eraser.word(each)
        kept.append(left)
        if left is not each:
            masked.append(left)
    words, memory = eraser.word(head), eraser.word(progress)
    if not meant and not masked and words is head and memory is progress:
        return None
    if meant:
        gone = {(each.source, each.fingerprint, each.starts_at) for each in meant}
        named = {
            name for each in kept for name in (each.name, *(token.key for token in tokens_of(each.labels)))
        }
        memory = replace(
            memory, root=None if memory.root in gone else memory.root,
            surprise_why=MASK if memory.surprise_why else "",
            criticals_told={name: at for name, at in memory.criticals_told.items() if name in named},
        )  # fmt: skip
        severity = worst(kept) if kept else words.severity
        words = replace(words, severity=severity, anomaly=replace(words.anomaly, reason=""))
    return Parted(Group(words, memory, kept), tuple(meant), tuple(masked))
