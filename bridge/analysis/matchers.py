r"""Label matchers in Prometheus' syntax: `team="db"`, `env!="dev"`, `service=~"shop|cart"`, `pod!~"test.*"`.

Rules: a label that is missing has the value "", as in Prometheus. Regular expressions must match the whole
value, and `.` matches a newline too (Prometheus 3). Values stand bare or in quotes: double and single quotes
take Go's escapes, backticks take none. A label name outside `[a-zA-Z_][a-zA-Z0-9_]*` stands in quotes.

Decision: RE2, Google's own bindings, instead of Python's `re`. A matcher means exactly what it means in
Alertmanager, and takes time in proportion to the value: with `re` a route like `handler=~"(/?[a-z]+)+"` and a
label of 42 letters held the analyst for so long that it was killed and the alert set aside.

Source: prometheus/alertmanager `matcher/parse`, prometheus/prometheus `model/labels/matcher.go`, Go
`strconv.Unquote`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import re2

Operator = Literal["=", "!=", "=~", "!~"]

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OPERATOR = re.compile(r"=~|!=|!~|=")
_BARE = re.compile(r"[^\s{},\"'`=!~][^\s{},\"'`]*")
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\"'])|x([0-9a-fA-F]{2})|([0-3][0-7]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"""
)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_WRITTEN = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", '"': r"\""}
_OPTIONS = re2.Options()
_OPTIONS.dot_nl = True
_OPTIONS.log_errors = False
#: What people know from other engines: part of RE2's complaint -> what to say.
_FOREIGN = {
    "invalid perl operator": "Prometheus knows no lookaround such as (?=...); use a second matcher",
    "invalid escape sequence": r"Prometheus knows no backreferences such as \1, and no \Z",
}


class Pattern(Protocol):
    """What is asked of a compiled expression (the bindings bring no types)."""

    def fullmatch(self, text: str) -> object | None:
        """Return something if all of `text` matches."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label.

    Raises:
        ValueError: `value` is not a regular expression although `operator` needs one.
    """

    name: str
    operator: Operator
    value: str
    _pattern: Pattern | None = field(init=False, repr=False, compare=False)
    _wanted: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pattern = _compile(self.value) if self.operator in {"=~", "!~"} else None
        object.__setattr__(self, "_pattern", pattern)
        object.__setattr__(self, "_wanted", self.operator[0] == "=")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether these labels satisfy the condition."""
        value = labels.get(self.name, "")
        if self._pattern is None:
            return (value == self.value) is self._wanted
        return (self._pattern.fullmatch(value) is not None) is self._wanted

    @property
    def text(self) -> str:
        """The matcher as `parse` reads it."""
        name = self.name if _NAME.fullmatch(self.name) else quote(self.name)
        return f"{name}{self.operator}{quote(self.value)}"


def all_hold(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Return whether every matcher holds; no matchers hold for everything."""
    return all(matcher.holds(labels) for matcher in matchers)


def parse(text: str) -> Matcher:
    """Return the one matcher that `text` is.

    Raises:
        ValueError: It is none, or more than one; the message says what to write.
    """
    found = parse_list(text)
    if len(found) != 1:
        raise ValueError(f"{text!r} holds {len(found)} matchers where one is needed")
    return found[0]


def parse_list(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of `a="b"`, `a="b",c=~"d"` or `{a="b",c=~"d"}`, in order; `{}` holds none.

    Raises:
        ValueError: The text is no list of matchers; the message says where and what to write.
    """
    return _Scanner(text).matchers()


def quote(value: str) -> str:
    """Return `value` in double quotes with Go's escapes."""
    return '"' + "".join(_WRITTEN.get(character, character) for character in value) + '"'


def _compile(expression: str) -> Pattern:
    try:
        return cast("Pattern", re2.compile(expression, _OPTIONS))
    except (re2.error, UnicodeEncodeError) as error:
        said = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "not UTF-8"
        advice = next((f" ({advice})" for part, advice in _FOREIGN.items() if part in said), "")
        raise ValueError(f"not a regular expression: {expression!r}: {said}{advice}") from error


class _Scanner:
    """Reads matchers from left to right; `_at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def matchers(self) -> tuple[Matcher, ...]:
        in_braces = self._take("{")
        found: list[Matcher] = []
        while not self._ended(in_braces=in_braces):
            found.append(self._matcher())
            if not self._take(","):
                break
        if in_braces and not self._take("}"):
            raise self._fault("expected , or }")
        if self._peek():
            raise self._fault("expected a comma or the end; a value with such characters stands in quotes")
        if not found and not in_braces:
            raise ValueError('the matcher is empty; write one such as team="db"')
        return tuple(found)

    def _matcher(self) -> Matcher:
        name = self._name()
        operator = self._match(_OPERATOR)
        if operator is None:
            raise self._fault("expected =, !=, =~ or !~ after the label name")
        if operator == "=" and self._peek() == "=":
            raise self._fault("write one = instead of ==")
        return Matcher(name, cast("Operator", operator), self._value())

    def _name(self) -> str:
        if self._peek() in {'"', "'", "`"}:
            name = self._quoted()
            if not name:
                raise self._fault("a label name cannot be empty")
            return name
        found = self._match(_NAME)
        if found is None:
            raise self._fault(
                "expected a label name; one with other characters than a-z, 0-9 and _ stands in quotes"
            )
        return found

    def _value(self) -> str:
        if self._peek() in {'"', "'", "`"}:
            return self._quoted()
        found = self._match(_BARE)
        if found is None:
            raise self._fault('expected a value; an empty one is ""')
        return found

    def _quoted(self) -> str:
        mark = self._text[self._at]
        if mark == "`":
            body = re.compile(r"`([^`]*)`", re.DOTALL)
        else:
            body = re.compile(rf"{mark}((?:[^{mark}\\]|\\.)*){mark}", re.DOTALL)
        found = body.match(self._text, self._at)
        if found is None:
            raise self._fault(f"the closing {mark} is missing")
        self._at = found.end()
        return found[1] if mark == "`" else _unescape(found[1])

    def _ended(self, *, in_braces: bool) -> bool:
        following = self._peek()
        return not following or (in_braces and following == "}")

    def _peek(self) -> str:
        self._match(_SPACE)
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        """Skip space, then return what `pattern` finds here, and step over it."""
        start = _SPACE.match(self._text, self._at)
        found = pattern.match(self._text, start.end() if start else self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _fault(self, what: str) -> ValueError:
        return ValueError(f"{what} (at character {self._at + 1} of {self._text!r})")


def _unescape(body: str) -> str:
    r"""Return what Go's `strconv.Unquote` makes of `body`; `\x` and octal escapes are bytes of UTF-8."""
    if "\\" not in body:
        return body
    out = bytearray()
    at = 0
    while (slash := body.find("\\", at)) >= 0:
        out += body[at:slash].encode()
        found = _ESCAPE.match(body, slash)
        if found is None:
            wrong = body[slash : slash + 2]
            raise ValueError(f"unknown escape {wrong}: write \\{wrong}, or put the value into backticks")
        out += _escaped(found)
        at = found.end()
    out += body[at:].encode()
    try:
        return out.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f'the escapes in "{body}" do not make valid UTF-8') from error


def _escaped(found: re.Match[str]) -> bytes:
    simple, byte, octal, short, long = found.groups()
    if simple:
        return bytes([_SIMPLE[simple]])
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8)])
    try:
        return chr(int(short or long, 16)).encode()
    except ValueError as error:  # beyond U+10FFFF, or half of a surrogate pair
        raise ValueError(f"{found[0]} is not a character") from error
