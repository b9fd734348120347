r"""The redactor: takes out of texts, labels and annotations what `Redact` says.

Rules: pure, and a function of the text and the key alone: a value that is remembered is the one that would be found
anew. What was taken out leaves a placeholder (`<secret>`, `<email>`, `<ip>`, `<card>`, `<phone>`, by rule `<masked>`),
with `hash` one that is the same for the same value (`<ip:c0ffee...>`). A placeholder is never looked into, so that
redacting twice changes nothing; and a text's placeholders are those that templates have (`analysis.text`), so that
masking does not make two kinds of alerts of one.

The value of a label that a rule takes is taken out of the alert's annotations and links, too, where it stands as a word
of its own: they are made of the labels, and a user name that is dropped from these and stands in the summary is not
dropped. Other labels with the same value are left alone: they have names, and rules of their own.

Decision: the key of hashes is no setting. Settings are inbox rows, are exported, and are shown; whoever has the key can
test guesses ("is this 10.0.0.1?") against every hash. It comes from the configuration's file or environment or is made
beside the stores, is handed to those who hash when their process starts, and stands nowhere else. Histories do not need
it: what they hold is hashed already, and a placeholder stays what it is. Each tenant's key is derived from it, so that
two tenants' hashes cannot be compared.

Decision: 15 hex digits of BLAKE2b after a letter. Half of 2^60 is a billion different values before two of them are
taken for one; the letter keeps a hash of digits from being a number to somebody.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, quote_plus

import re2

from bridge.redaction.detectors import (
    DETECTORS,
    NAME_CHARS,
    holds_secret,
    looks_for,
    looks_into,
    may_hold_secret,
)
from bridge.redaction.terms import KINDS, STRENGTH, Kind, Redact, Rule, RuleAction

#: Without a key: what hashes are made with where none was handed over. Whoever reads this can make them, too.
NO_KEY = b""
#: How a placeholder is called whose text was taken by a rule, masked and hashed.
MASKED, HASHED = "masked", "hash"
#: What kinds of things are counted: those of the detectors, and what rules took.
COUNTED = (*KINDS, "label", "annotation")
#: Texts that are remembered, of all tenants together, and how long they may be: some 10 MB, at most 40.
ENTRIES, ENTRY_CHARS = 20_000, 512
NAMES = 2_000  # that rules were asked for
LEAST_ENTRIES = 100  # of one tenant
#: Shorter values of labels stand in texts for other reasons.
LEAST_FOLLOWED = 3
#: Values of labels, of one alert, that are looked for in its texts.
MOST_FOLLOWED = 64
_TAKING: frozenset[RuleAction | None] = frozenset({"drop", "mask", "hash"})

_NAMES: dict[str, str] = {kind: "secret" if kind == "secrets" else kind for kind in KINDS}
_PLACEHOLDER = re.compile(
    rf"<(?:(?:{'|'.join((*_NAMES.values(), HASHED))})(?::[a-f][0-9a-f]{{15}})?|{MASKED})>"
)
#: An escape of JSON that stands for a letter, a digit or a sign which needs none; and others, to step over them.
_HIDDEN = re.compile(r"\\(?:u00([2-7][0-9A-Fa-f])|.)", re.DOTALL)
_NEEDED = frozenset('"\\')
#: What addresses write as it is.
_SAFE = re.compile(r"[A-Za-z0-9_.~-]*")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_PAIR = re2.compile(r'([A-Za-z_:][A-Za-z0-9_:.]*|"(?:[^"\\]|\\.)*")[ ]?(=~|!=|!~|=)[ ]?"((?:[^"\\]|\\.)*)"')
_JSON_PAIR = re2.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"?|[^\s",\[\]{}]+)')

#: The same as the event recorder writes labels.
_KEY_AND_VALUE = re2.compile(r'"key"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"value"\s*:\s*("(?:[^"\\]|\\.)*"?)')

Text = tuple[str, tuple[str, ...]]  # what is left, and the kinds of what was taken


def _unchanged(text: str) -> str:
    return text


def _all_masked(text: str) -> str:
    return f"<{MASKED}>" if text else text


def key_of(master: bytes, tenant: str) -> bytes:
    """Return the key of a tenant's hashes."""
    key = blake2b(master, digest_size=32).digest()  # of any length
    return blake2b(tenant.encode(), key=key, digest_size=32, person=b"tocsin.redact").digest()


class Redactor:
    """What one tenant's, or one destination's, `Redact` does."""

    def __init__(self, redact: Redact, key: bytes = NO_KEY) -> None:
        """Prepare; `key` is a tenant's (`key_of`), up to 64 bytes.

        Raises:
            ValueError: A rule's expression is none.
        """
        self._key = key
        self._label = _Names(redact.labels)
        self._annotation = _Names(redact.annotations)
        self._kinds = tuple(kind for kind in KINDS if redact.of(kind) != "keep")
        self._finds_secrets = "secrets" in self._kinds
        self._hashed = frozenset(kind for kind in KINDS if redact.of(kind) == "hash")
        self._by_names = bool(self._label or self._annotation)
        self._looks_into = looks_into(self._kinds) if self._kinds else lambda _raw: False
        self._looks_for = looks_for(self._kinds) if self._kinds else lambda _text: []
        self._texts: OrderedDict[str, Text] = OrderedDict()
        self.entries = ENTRIES
        self.counts: dict[str, int] = {}  # by what of `COUNTED`; whoever reads it may empty it

    @property
    def does_nothing(self) -> bool:
        """Whether nothing is ever taken out."""
        return not (self._kinds or self._label or self._annotation)

    def may_change(self, raw: bytes) -> bool:
        """Return whether there may be something to take out of JSON; where there is, it is true."""
        return self._by_names or self._looks_into(raw)

    # ---- texts -------------------------------------------------------------------------------------------

    def text(self, text: str) -> str:
        """Return a text without what the detectors find in it."""
        known = self._texts.get(text)
        if known is None:
            known = self._searched(text)
            if len(text) <= ENTRY_CHARS:
                self._texts[text] = known
                while len(self._texts) > self.entries:
                    self._texts.popitem(last=False)
        if known[1]:
            for kind in known[1]:
                self._count(kind)
        return known[0]

    def _searched(self, text: str) -> Text:
        taken: list[str] = []
        before = None
        while text != before:  # what is taken out may leave something that is found only now
            before = text
            try:
                sorts = self._looks_for(text)
            except UnicodeEncodeError:  # half of a surrogate pair: no JSON that is let in has one
                return self._searched(text.encode(errors="replace").decode())
            for kind in [self._kinds[place] for place in sorted(sorts or ())]:
                text = _between(text, partial(self._taken, kind, taken))
        return text, tuple(taken)

    def _taken(self, kind: Kind, taken: list[str], text: str) -> str:
        pieces: list[str] = []
        done = 0
        for start, end in DETECTORS[kind](text):
            pieces += (
                text[done:start],
                self._placeholder(_NAMES[kind], kind in self._hashed, text[start:end]),
            )
            done = end
            taken.append(kind)
        return "".join((*pieces, text[done:])) if pieces else text

    def _placeholder(self, name: str, is_hashed: bool, value: str) -> str:
        if not is_hashed:
            return f"<{name}>"
        digest = blake2b(value.encode(errors="replace"), key=self._key, digest_size=8).hexdigest()
        return f"<{name}:{'abcdef'[int(digest[0], 16) % 6]}{digest[1:]}>"

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1

    # ---- labels and annotations ----------------------------------------------------------------------------

    def label(self, name: str, value: str) -> str | None:
        """Return what is left of a label's value; None where the label is dropped."""
        return self._by_name(self._label, "label", name, value)

    def annotation(self, name: str, value: str) -> str | None:
        """Return what is left of an annotation's value; None where it is dropped."""
        return self._by_name(self._annotation, "annotation", name, value)

    def _by_name(self, rules: _Names, what: str, name: str, value: str) -> str | None:
        action = rules.action(name)
        if action is None:
            if self._finds_secrets and holds_secret(name, value):
                return self._replaced("secrets", value, is_hashed="secrets" in self._hashed)
            return self.text(value)
        if action == "keep":
            return value
        if action == "drop":
            self._count(what)
            return None
        return self._replaced(what, value, is_hashed=action == "hash")

    def _replaced(self, what: str, value: str, *, is_hashed: bool) -> str:
        """Return what stands in place of a whole value; nothing stays nothing, and a placeholder what it is."""
        if not value or _PLACEHOLDER.fullmatch(value):
            return value
        self._count(what)
        usual = HASHED if is_hashed else MASKED
        return self._placeholder(_NAMES.get(what, usual), is_hashed, value)

    def labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Return labels without what is to be taken out of names and values."""
        return self._redacted(labels, self._label, "label", _unchanged)

    def annotations(
        self, annotations: Mapping[str, str], follow: Callable[[str], str] = _unchanged
    ) -> dict[str, str]:
        """Return annotations, as `labels`; `follow` is what `followed` returned for their alert."""
        return self._redacted(annotations, self._annotation, "annotation", follow)

    def _redacted(
        self, pairs: Mapping[str, str], rules: _Names, what: str, follow: Callable[[str], str]
    ) -> dict[str, str]:
        """Return pairs as they may be kept.

        Of names that are the same now the value that sorts first stays, in whatever order they came.
        """
        kept: dict[str, str] = {}
        for name, value in pairs.items():
            text = value if follow is _unchanged else follow(value)
            if name in rules.plain:  # nearly all names: nothing is asked about them again
                known = self._texts.get(text)
                left: str | None = text if known is not None and not known[1] else self.text(text)
            else:
                left = self._by_name(rules, what, name, text)
                name = self._named(rules, name)  # noqa: PLW2901 - the name that it has from here on
            if left is not None:
                kept[name] = left if name not in kept else min(kept[name], left)
        return kept

    def _named(self, rules: _Names, name: str) -> str:
        """Return what is left of a name, and remember one of which nothing has to be asked."""
        left = self.text(name)
        is_plain = left == name and rules.action(name) is None and not may_hold_secret(name)
        if is_plain and len(name) <= NAME_CHARS and len(rules.plain) < NAMES:
            rules.plain.add(name)
        return left

    def followed(self, *labels: Mapping[str, str], most: int = MOST_FOLLOWED) -> Callable[[str], str]:
        """Return what takes the values that rules take out of `labels` out of texts about the same alerts.

        Longer values go before shorter ones. Where rules take more than `most` values nothing is left of the texts: no
        alert of a person's rule has so many, and each costs a look at every text. Nothing where no rule takes a label.
        """
        if not self._label:
            return _unchanged
        taken: dict[str, str] = {}
        for name, value in (pair for each in labels for pair in each.items()):
            action = self._label.action(name)
            if action in _TAKING and len(value) >= LEAST_FOLLOWED and not _PLACEHOLDER.fullmatch(value):
                instead = self._instead(value, is_hashed=action == "hash")
                taken[value] = min(taken.get(value, instead), instead)  # `<hash...` before `<masked>`
                if len(taken) > most:
                    return _all_masked
        return self._follow(taken)

    def _instead(self, value: str, *, is_hashed: bool) -> str:
        return self._placeholder(HASHED if is_hashed else MASKED, is_hashed, value)

    @staticmethod
    def _follow(taken: Mapping[str, str]) -> Callable[[str], str]:
        """Return what puts placeholders in the place of values, as they are or as addresses write them."""
        if not taken:
            return _unchanged
        written = {
            form: instead
            for value, instead in taken.items()
            for form in (
                (value,) if _SAFE.fullmatch(value) else (quote(value, safe=""), quote_plus(value), value)
            )
        }
        ordered = sorted(written.items(), key=lambda pair: (-len(pair[0]), pair[0]))

        def follow(text: str) -> str:
            for value, instead in ordered:
                if value in text:
                    text = _between(text, partial(_whole, value, instead))
            return text

        return follow

    def group_key(self, key: str) -> str:
        """Return a group key (`{}/{team="db"}:{alertname="A"}`) with its labels redacted as labels are."""
        pieces: list[str] = []
        done = 0
        for found in _PAIR.finditer(key):
            name, value = found[1].strip('"'), found[3]
            left = self.label(name, value)
            if left != value:
                start, end = found.span(3)
                pieces += (key[done:start], "<masked>" if left is None else left)
                done = end
        return self.text("".join((*pieces, key[done:])))

    def everywhere(self, value: Any) -> Any:
        """Return a value of JSON with the texts in it redacted, keys aside; for what is small."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.everywhere(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(each) for each in value]
        return value

    # ---- what nobody could read ----------------------------------------------------------------------------

    def raw(self, text: str) -> str:
        """Return a text that may be JSON, or a part of it: names followed by a value are treated by their rules.

        For what cannot be parsed, or must not be. Where nothing is found it is what it was, to the letter.
        """
        plain = _HIDDEN.sub(_unhidden, text) if "\\" in text else text
        left = self._raw(plain)
        return text if left == plain else left

    def _raw(self, text: str) -> str:
        taken: dict[str, str] = {}
        for pattern in (_JSON_PAIR, _KEY_AND_VALUE):
            text = self._in_pairs(pattern, text, taken)
        return self.text(self._follow(taken)(text))

    def _in_pairs(self, pattern: Any, text: str, taken: dict[str, str]) -> str:
        """Return a text with the second group of each match treated by the name that is the first.

        What rules took, and what stands in its place, is added to `taken`.
        """
        pieces: list[str] = []
        done = 0
        for found in pattern.finditer(text):
            name, value = found[1], found[2].strip('"')
            actions = {self._label.action(name), self._annotation.action(name)}
            if actions & _TAKING:
                action = next(each for each in STRENGTH if each in actions)
                left = self._replaced("label", value, is_hashed=action == "hash")
                if len(value) >= LEAST_FOLLOWED and left != value and len(taken) < MOST_FOLLOWED:
                    taken[value] = left
            elif self._finds_secrets and holds_secret(name, value):
                left = self._replaced("secrets", value, is_hashed="secrets" in self._hashed)
            else:
                continue
            start, end = found.span(2)
            pieces += (text[done:start], f'"{left}"')
            done = end
        return "".join((*pieces, text[done:]))


class Redactors:
    """The redactors of all tenants, made when they are needed, each with a key of its own."""

    def __init__(self, master: bytes = NO_KEY) -> None:
        """Take the key that the keys of all tenants are derived from."""
        self._master = master
        self._made: dict[str, tuple[Redact, Redactor]] = {}

    def of(self, tenant: str, redact: Redact) -> Redactor:
        """Return a tenant's redactor that does what `redact` says."""
        made = self._made.get(tenant)
        if made is None or made[0] != redact:
            made = self._made[tenant] = (redact, Redactor(redact, key_of(self._master, tenant)))
            for _, redactor in self._made.values():
                redactor.entries = max(LEAST_ENTRIES, ENTRIES // len(self._made))
        return made[1]


class _Names:
    """Rules, asked for a name; what was answered is remembered."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[str, RuleAction] = {}
        self._others: list[tuple[Any, RuleAction]] = []
        for rule in sorted(rules, key=lambda rule: STRENGTH.index(rule.action), reverse=True):
            if rule.name and not {"*", "?"} & set(rule.name):
                self._exact[rule.name] = rule.action  # the strongest comes last
            else:
                self._others.insert(0, (_expression(rule), rule.action))
        self._known: dict[str, RuleAction | None] = {}
        self.plain: set[str] = set()  # names of which no rule and no detector says anything

    def __bool__(self) -> bool:
        return bool(self._exact or self._others)

    def action(self, name: str) -> RuleAction | None:
        """Return what becomes of what has this name; None: no rule says."""
        if not self._others:
            return self._exact.get(name)
        if name in self._known:
            return self._known[name]
        fitting = {action for pattern, action in self._others if pattern.fullmatch(name)}
        fitting |= {self._exact[name]} if name in self._exact else set()
        strongest = next((action for action in STRENGTH if action in fitting), None)
        if len(name) <= NAME_CHARS:
            if len(self._known) >= NAMES:
                self._known.clear()
            self._known[name] = strongest
        return strongest


def takes(rules: Iterable[Rule], name: str) -> bool:
    """Return whether rules drop, mask or hash what has this name."""
    return _Names(rules).action(name) in _TAKING


def compiled(expression: str) -> Any:
    """Return an expression that names are matched with, as a whole.

    Raises:
        ValueError: It is none; the message says why.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "not UTF-8"
        raise ValueError(f"not a regular expression (RE2): {said}") from error


def _expression(rule: Rule) -> Any:
    if rule.regex:
        return compiled(rule.regex)
    return compiled("(?s)" + re2.escape(rule.name).replace(r"\*", ".*").replace(r"\?", "."))


def _between(text: str, change: Callable[[str], str]) -> str:
    """Return the text with what stands between its placeholders changed."""
    if "<" not in text:
        return change(text)
    pieces: list[str] = []
    done = 0
    for found in _PLACEHOLDER.finditer(text):
        pieces += (change(text[done : found.start()]), found[0])
        done = found.end()
    return "".join((*pieces, change(text[done:])))


def _whole(value: str, instead: str, text: str) -> str:
    """Replace a value where it stands as whole words."""
    pieces: list[str] = []
    start = at = 0
    while (at := text.find(value, at)) >= 0:
        end = at + len(value)
        begins = not _joined(text[at - 1 : at], value[0]) or _ESCAPE.fullmatch(text, max(at - 3, 0), at)
        if begins and not (_joined(value[-1], text[end : end + 1])):
            pieces += (text[start:at], instead)
            start = end
        at = end
    return "".join((*pieces, text[start:]))


def _unhidden(found: re.Match[str]) -> str:
    """Return what an escape of JSON stands for, unless JSON needs it."""
    if found[0] == "\\/":
        return "/"
    letter = chr(int(found[1], 16)) if found[1] else '"'
    return found[0] if letter in _NEEDED else letter


def _joined(before: str, after: str) -> bool:
    return (before.isalnum() or before == "_") and (after.isalnum() or after == "_")
