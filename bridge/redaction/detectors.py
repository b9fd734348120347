r"""Detectors: where in a text something sensitive stands, told by its form.

Rules: pure, and in time linear in the text: an expression is RE2's, or cannot look further than some forty characters.
RE2 has no lookaround, so that what may stand before and after a find is asked here. Nothing is told by how random it
looks: pod names, image digests, commit ids, trace ids and fingerprints are random, too, and a masked one would put
alerts together that have nothing in common.

`secrets`: what vendors begin their tokens with, signed tokens (JWT), private keys, the password in an address, what
follows `Bearer`, and the value of a name like `password=`, `api_key: `, `"client_secret": "..."`. A value after a name
that is also an ordinary word (`token`, `secret`) counts only where it is no ordinary word itself: "token: expired".
`email`, `ip` (IPv4, IPv6 as `ipaddress` reads it, and the host names that clouds make of IPv4), `card` (13 to 19
digits that begin like a card's, with Luhn's check digit), `phone` (international, with the plus).

Decision: own expressions over google-re2, which is here for matchers anyway, and the standard library. Measured on
alert texts: `detect-secrets` takes 1.7 ms for a text, 21 MB, and takes each of eight ordinary texts for a secret (its
entropy detectors); `phonenumbers` takes 0.1 ms for a text that holds no number, and without a country finds no others
than with a plus; `email-validator` says whether a text is an address, not where one is. These take 1 to 3 us.

Source: the forms of tokens are those that the vendors document; card numbers: ISO/IEC 7812-1; phone numbers: E.164.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from ipaddress import IPv6Address
from typing import Any, Literal, NamedTuple

import re2

from bridge.redaction.terms import Kind

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 64 << 20


class Find(NamedTuple):
    """Where something stands: text[start:end]."""

    start: int
    end: int


# ---- secrets ---------------------------------------------------------------------------------------------

#: Where a word begins: in an address also behind an escape, such as `%22`.
_EDGE = r"(?:\b|%[0-9A-Fa-f]{2})"
#: Told by how they begin. Of those with a fixed length the end is asked for, too.
_TOKENS = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",  # AWS, the id of a key
    r"gh[pousr]_[A-Za-z0-9]{30,}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|soat|agent|oas)-[A-Za-z0-9_-]{20,}",  # GitLab
    r"xox[abceoprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"xapp-[0-9]-[A-Za-z0-9-]{10,}",
    r"(?:sk|rk)_(?:live|test|prod)_[A-Za-z0-9]{10,}",  # Stripe
    r"whsec_[A-Za-z0-9+/=]{24,}",  # Stripe, Standard Webhooks
    r"sk-(?:proj-|ant-|svcacct-|admin-|or-)?[A-Za-z0-9_-]{32,}",  # OpenAI, Anthropic and others
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"GOCSPX-[A-Za-z0-9_-]{28}",
    r"ya29\.[A-Za-z0-9_-]{20,}",
    r"hv[sbr]\.[A-Za-z0-9_-]{20,}",  # HashiCorp
    r"do[opr]_v1_[a-f0-9]{64}\b",  # DigitalOcean
    r"dapi[a-f0-9]{32}\b",  # Databricks
    r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b",  # Grafana
    r"glc_[A-Za-z0-9+/=]{32,}",
    r"NRAK-[A-Z0-9]{27}\b",  # New Relic
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",  # SendGrid
    r"SK[a-f0-9]{32}\b",  # Twilio
    r"npm_[A-Za-z0-9]{36}\b",
    r"pypi-AgE[A-Za-z0-9_-]{50,}",
    r"hf_[A-Za-z0-9]{34}\b",  # Hugging Face
    r"ATATT3[A-Za-z0-9_=-]{60,}",  # Atlassian
    r"lin_api_[A-Za-z0-9]{40}\b",  # Linear
    r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b",  # Shopify
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9._-]{40,}",  # Doppler
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram
    r"AGE-SECRET-KEY-1[A-Z0-9]{58}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",  # JWT
)
#: Names whose value is a secret, whatever it is.
_SURE_NAME = (
    r"(?:password|passwd|passphrase|pwd|api[_.-]?key|secret[_.-]?key|client[_.-]?secret|secret[_.-]?access[_.-]?key|"
    r"private[_.-]?key|signing[_.-]?key|(?:access|auth|refresh|bearer|session|api|id)[_.-]?token|"
    r"shared[_.-]?access[_.-]?signature|x-amz-signature|x-amz-security-token|authorization)"
)
#: Names that are ordinary words as well.
_WORD_NAME = r"(?:token|secret|credentials?|passcode|sig)"
_IS = r"(?:=>|=|:)[ \t]?"
_QUOTE = r"\\?[\"']"
_SCHEME = r"(?:(?:bearer|basic|digest|splunk|token)[ \t]+)?"
#: Up to white space, a quote, or what ends a parameter.
_VALUE = r"[^\s\"'&;,]"
#: The same where the text is part of an address: `=` and quotes are escaped.
_ESCAPED = r"(?:[^\s\"'&;,%]|%(?:[013-689A-Fa-f][0-9A-Fa-f]|2[1345789ABDEFabdef]|7[0-9A-CEFa-cef]))"
_SECRETS = (
    _EDGE + r"(?P<token>" + "|".join(_TOKENS) + r")"
    r"|(?P<block>-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[^\"]*?"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\"|\z))"
    # The password in the user part of an address.
    r"|[A-Za-z0-9+.-]://[^\s/?#\"'@<>:]*:(?P<password>[^\s/?#\"'<>]+)@"
    r"|://(?:hooks\.slack\.com|[A-Za-z0-9.-]+\.webhook\.office\.com|[A-Za-z0-9.-]+\.logic\.azure\.com"
    r"|discord(?:app)?\.com/api/webhooks)/(?P<path>[^\s\"'<>]+)"
    r"|(?i:\b(?:bearer|basic|splunk)[ \t]+(?P<bearer>[A-Za-z0-9._~+/-]{12,}=*))"
    r"|(?i:AccountKey=(?P<azure>[A-Za-z0-9+/=]{20,}))"
    r"|(?i:\brouting_key(?:"
    + _QUOTE
    + r")?[ \t]?"
    + _IS
    + r"(?:"
    + _QUOTE
    + r")?(?P<routing>[a-f0-9]{32})\b)"
    r"|(?i:"
    + _SURE_NAME
    + r"(?:"
    + _QUOTE
    + r")?[ \t]?"
    + _IS
    + _QUOTE
    + _SCHEME
    + r"(?P<quoted>[^\"'\\]{3,}))"
    r"|(?i:" + _SURE_NAME + r"(?:" + _QUOTE + r")?[ \t]?" + _IS + _SCHEME + r"(?P<sure>" + _VALUE + r"{3,}))"
    r"|(?i:--?" + _SURE_NAME + r"[ \t]+(?P<flag>[^\s\"'&;,-]" + _VALUE + r"{2,}))"
    r"|(?i:" + _SURE_NAME + r"%3[DA](?:%22)?(?P<escaped>" + _ESCAPED + r"{3,}))"
    r"|(?i:"
    + _WORD_NAME
    + r"(?:"
    + _QUOTE
    + r")?[ \t]?"
    + _IS
    + r"(?:"
    + _QUOTE
    + r")?(?P<word>"
    + _VALUE
    + r"{6,}))"
)
#: What stands behind a value and is no part of it: the bracket around all of it, the end of the sentence.
_BEHIND = ")]}>.\\"
#: No secret although it follows a name of one: words ("token: expired"), numbers.
_ORDINARY = re2.compile(r"[A-Za-z]+(?:[-_.:/][A-Za-z]+)*[!?]*|[0-9]{1,10}", _OPTIONS)
ORDINARY_CHARS = 16  # longer words are none
NAME_CHARS = 128  # longer names are not remembered
#: Names of labels and annotations. `secret` names an object of Kubernetes, `token` may name one.
_SECRET_NAME = re2.compile(r"(?is).*" + _SURE_NAME, _OPTIONS)
_TOKEN_NAME = re2.compile(r"(?is)(?:.*[_.-])?token", _OPTIONS)


def holds_secret(name: str, value: str) -> bool:
    """Return whether a label or an annotation of this name has a secret as its value."""
    match _sort_of(name) if len(name) <= NAME_CHARS else _told_sort_of(name):
        case "":
            return False
        case "token":
            return not _is_ordinary(value)
        case _:
            return not (name.lower().endswith("pwd") and value.startswith("/"))  # a directory


def may_hold_secret(name: str) -> bool:
    """Return whether what has this name may be a secret for it."""
    return _told_sort_of(name) != ""


def _told_sort_of(name: str) -> Literal["", "secret", "token"]:
    if _SECRET_NAME.fullmatch(name):
        return "secret"
    return "token" if _TOKEN_NAME.fullmatch(name) else ""


_sort_of = lru_cache(maxsize=10_000)(_told_sort_of)


def _is_ordinary(value: str) -> bool:
    return len(value) < ORDINARY_CHARS and (len(value) < 6 or _ORDINARY.fullmatch(value) is not None)  # noqa: PLR2004 - as in text


def _secrets(text: str) -> Iterator[Find]:
    for found in _FINDERS["secrets"].finditer(text):
        group = found.lastindex
        start, end = found.span(group)
        value = text[start:end]
        if group in _TRIMMED:
            value = value.rstrip(_BEHIND)
        if not value or (group == _WORD and _is_ordinary(value)):
            continue
        yield Find(start, start + len(value))


# ---- the others ------------------------------------------------------------------------------------------

_EMAIL = (
    r"(?:%[0-9A-Fa-f]{2})?(?P<email>[A-Za-z0-9.!#$&'*+/?^_`{|}~-]+(?:@|%40)(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})"
)
#: `getty@tty1.service` is a unit of systemd, `git@github.com:org/repo` an address of a repository.
_UNITS = frozenset(
    {"service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"}
)
_CARD = _EDGE + r"(?P<card>[2-6](?:[ -]?[0-9]){12,18})\b"
_IPV4 = _EDGE + r"(?P<ipv4>ip-[0-9]{1,3}(?:-[0-9]{1,3}){3}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})\b"
_IPV6 = r"(?:%[0-9A-Fa-f]{2})?(?P<ipv6>(?:[0-9A-Fa-f]*:){2,}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]*))"
_PHONE = r"(?P<phone>(?:\+|%2[Bb])[1-9](?:[ ./()-]{0,2}[0-9]){7,14})\b"
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NO_DIGIT = re.compile(r"[^0-9]")
_EXPRESSIONS: dict[Kind, str] = {
    "secrets": _SECRETS,
    "email": _EMAIL,
    "card": _CARD,
    "ip": _IPV6 + "|" + _IPV4,
    "phone": _PHONE,
}
_FINDERS: dict[str, Any] = {
    "secrets": re2.compile(_SECRETS, _OPTIONS),
    "email": re2.compile(_EMAIL, _OPTIONS),
    "ipv6": re2.compile(_IPV6, _OPTIONS),
    # These never look further than some forty characters, and the library's own are quicker to ask.
    "ipv4": re.compile(_IPV4, re.ASCII),
    "card": re.compile(_CARD, re.ASCII),
    "phone": re.compile(_PHONE, re.ASCII),
}
_NAMES = _FINDERS["secrets"].groupindex
_WORD = _NAMES["word"]
_TRIMMED = frozenset(_NAMES[name] for name in ("quoted", "sure", "flag", "word"))


def _emails(text: str) -> Iterator[Find]:
    for found in _FINDERS["email"].finditer(text):
        start, end = found.span(1)
        name, _, host = text[start:end].replace("%40", "@").partition("@")
        start += len(name) - len(
            name.lstrip(".'/`!|{")
        )  # no address begins so, and texts put these before one
        is_repository = name.endswith("git") and text[end : end + 1] == ":"
        if text[start] not in "@%" and host.rpartition(".")[2].lower() not in _UNITS and not is_repository:
            yield Find(start, end)


def _cards(text: str) -> Iterator[Find]:
    for found in _FINDERS["card"].finditer(text):
        start, end = found.span(1)
        is_fraction = text[max(start - 1, 0) : start] == "." and text[max(start - 2, 0) : start - 1].isdigit()
        if not is_fraction and _luhn(_NO_DIGIT.sub("", text[start:end])):
            yield Find(start, end)


def _luhn(digits: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _ips(text: str) -> Iterator[Find]:
    found = [find for find in _ipv4s(text) if not _is_in(find, text)]
    if text.count(":") > 1:
        whole = list(_ipv6s(text))  # of which an IPv4 address may be the end
        found = [
            each for each in found if not any(one.start <= each.start < one.end for one in whole)
        ] + whole
    yield from sorted(found)


def _ipv4s(text: str) -> Iterator[Find]:
    for found in _FINDERS["ipv4"].finditer(text):
        parts = found[1].removeprefix("ip-").replace("-", ".").split(".")
        if all(int(part) <= 255 for part in parts):  # noqa: PLR2004 - a byte
            yield Find(*found.span(1))


def _ipv6s(text: str) -> Iterator[Find]:
    for found in _FINDERS["ipv6"].finditer(text):
        start, end = found.span(1)
        number = text[start:end]
        if number.endswith(":") and not number.endswith("::"):  # the end of "2001:db8::1: down"
            number = number[:-1]
        find = Find(start, start + len(number))
        if len(number) > 2 and _is_ipv6(number) and not _is_in(find, text):  # noqa: PLR2004 - `::` alone is C++'s
            yield find


def _is_in(find: Find, text: str) -> bool:
    """Return whether a find is part of something longer: a word, a version of five parts."""
    start, end = find
    return _is_word(text, start - 1) or _is_word(text, end) or _goes_on(text, start, end)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Return whether the number goes on: a version of five parts is no address."""
    after, before = text[end : end + 2], text[max(start - 2, 0) : start]
    return (after[:1] == "." and after[1:].isdigit()) or (before[-1:] == "." and before[:-1].isdigit())


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _phones(text: str) -> Iterator[Find]:
    for found in _FINDERS["phone"].finditer(text):
        start, end = found.span()
        if not _is_word(text, start - 1):
            yield Find(start, end)


def _is_word(text: str, at: int) -> bool:
    """Return whether part of a word stands at a place, which may be outside of the text; an escape is none."""
    if not 0 <= at < len(text) or not (text[at].isalnum() or text[at] == "_"):
        return False
    return _ESCAPE.fullmatch(text, at - 2, at + 1) is None if at > 1 else True


DETECTORS: dict[Kind, Callable[[str], Iterator[Find]]] = {
    "secrets": _secrets,
    "email": _emails,
    "card": _cards,
    "ip": _ips,
    "phone": _phones,
}


#: Escapes of JSON that may hide from a look at JSON itself what stands in its texts. Go writes `&`, `<` and `>` so.
_HIDING = r"\\(?:[/bf\\]|u(?:[^0]|0[^0]|00[^23]|002[^6]|003[^cCeE]))"
_NAMED = r"(?i:" + _SURE_NAME + r"\\?\"\s*:)"
_SPACES = (b"\\n", b"\\t", b"\\r")


@cache
def looks_into(kinds: tuple[Kind, ...]) -> Callable[[bytes], bool]:
    """Return what says of JSON whether any of its texts may hold one of these kinds; some 2 us for 1 kB.

    It may say so of what holds none, and never the other way round.
    """
    wanted = re2.Set.SearchSet(_OPTIONS)
    for pattern in (_HIDING, _NAMED, *(_EXPRESSIONS[kind] for kind in kinds)):
        wanted.Add(pattern.encode())
    wanted.Compile()

    def look(raw: bytes) -> bool:
        if b"\\" in raw:  # a line that ends is the edge of a word, and its escape would be part of it
            for space in _SPACES:
                raw = raw.replace(space, b"  ")
        return bool(wanted.Match(raw))

    return look


@cache
def looks_for(kinds: tuple[Kind, ...]) -> Callable[[str], list[int]]:
    """Return what says quickly which of these kinds, by their place, a text may hold; most texts hold none.

    One pass over the text for all of them together, some 2 us.
    """
    wanted = re2.Set.SearchSet(_OPTIONS)
    for kind in kinds:
        wanted.Add(_EXPRESSIONS[kind])
    wanted.Compile()
    found: Callable[[str], list[int]] = wanted.Match
    return found
