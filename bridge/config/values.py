"""Values: what is written in one place of a configuration, read and checked by itself.

Rules: a message says what to write instead, and never repeats what may be a secret. What depends on other keys is not
known here.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from bridge.analysis.matchers import Matcher, parse_list
from bridge.auth import ATTRIBUTES
from bridge.model import SEVERITY_RANK
from bridge.redaction import compiled

_UNIT_S = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNIT_S))
_SIZE = re.compile(r"([0-9]{1,12})\s?(B|kB|MB|GB|KiB|MiB|GiB)")
_SIZE_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
LONGEST_S = 10 * _UNIT_S["y"]
MIN_TOKEN = 16
MIN_HASH_KEY = 32


class Section(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def duration_s(text: object) -> float:
    """Return the seconds of `30s`, `5m`, `1h30m`, `30d`: Prometheus' durations, largest unit first."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise ValueError("must be a duration with its unit, such as 30s, 5m, 1h30m or 30d")
    amount = sum(
        int(count) * unit_s for count, unit_s in zip(found.groups(), _UNIT_S.values(), strict=True) if count
    )
    if amount > LONGEST_S:
        raise ValueError("must be at most 10y")
    return float(amount)


def size_bytes(text: object) -> int:
    """Return the bytes of `64MiB`, `500kB`, `1GiB`."""
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be a size with its unit, such as 64MiB, 500kB or 1GiB")
    return int(found[1]) * _SIZE_BYTES[found[2]]


def _positive(amount: float) -> float:
    if amount <= 0:
        raise ValueError("must be more than zero")
    return amount


def at_least_a_minute(amount_s: float | None) -> float | None:
    """Return it; an error if it is shorter."""
    if amount_s is not None and amount_s < _UNIT_S["m"]:
        raise ValueError("must be at least 1m")
    return amount_s


def at_least_a_second(amount_s: float) -> float:
    """Return it; an error if it is shorter."""
    if amount_s < _UNIT_S["s"]:
        raise ValueError("must be at least 1s")
    return amount_s


def a_horizon(amount_s: float) -> float:
    """Return it; an error if nobody can look ahead so far, or if origins would not be aligned."""
    if not 15 * _UNIT_S["m"] <= amount_s <= 30 * _UNIT_S["d"] or amount_s % _UNIT_S["m"]:
        raise ValueError("must be 15m to 30d in whole minutes")
    return amount_s


def windows(lengths_s: list[float]) -> list[float]:
    """Return lengths of windows that fit into each other."""
    if not 1 <= len(lengths_s) <= 4:  # noqa: PLR2004 - each is asked about at every look
        raise ValueError("must be 1 to 4 durations, such as [5m, 1h, 1d]")
    if lengths_s != sorted(set(lengths_s)):
        raise ValueError("must go up, each once, such as [5m, 1h, 1d]")
    if any(length_s % lengths_s[0] or lengths_s[0] % 5 for length_s in lengths_s):
        raise ValueError("must be multiples of the first one, and that of 5s, such as [5m, 1h, 1d]")
    return lengths_s


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits, `_`, `.` or `-`, and begin with a letter or digit")
    return text


def address(text: str) -> str:
    """Return an address to listen at, host:port."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 - the ports of TCP
        raise ValueError("must be host:port, such as 127.0.0.1:9195 or [::1]:9195")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address stands in brackets, such as [::1]:9195")
    return text


def web_url(text: str) -> str:
    """Return an address of HTTP, or ""."""
    if text and (urlsplit(text).scheme not in {"http", "https"} or not urlsplit(text).hostname):
        raise ValueError("must begin with http:// or https:// and a host")
    if urlsplit(text).query or urlsplit(text).fragment or urlsplit(text).username:
        raise ValueError("must be an address without user, query or fragment")
    return text.rstrip("/")


def peers(urls: list[str]) -> list[str]:
    """Return the addresses of one cluster, each there once."""
    for url in urls:
        if not url:
            raise ValueError("must begin with http:// or https:// and a host")
    if len(set(urls)) < len(urls):
        raise ValueError("names an address twice; each peer stands once")
    return urls


def certificates(path: str) -> str:
    """Return the path of a file with certificates, or ""."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:  # ssl's own errors are of this kind
            raise ValueError(f"no certificates can be read from {path}") from error
    return path


def readable(path: str) -> str:
    """Return the path of a file that can be read."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise ValueError("is no path of a file") from error
    return path


def keys_url(text: str) -> str:
    """Return an address for which nobody on the way can answer."""
    parts = urlsplit(text)
    is_near = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or not (parts.scheme == "https" or is_near):
        raise ValueError("must begin with https:// and a host; http:// only for this machine")
    if parts.username or parts.fragment:
        raise ValueError("must be an address without user or fragment")
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError("must be an address or a network, such as 10.0.0.0/8 or 2001:db8::/32") from error


def user(name: str) -> str:
    """Return the name of a user as HTTP's basic authentication can send it."""
    if ":" in name:
        raise ValueError("must have no colon: a colon ends the name where it is sent")
    return name


def _header_name(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError("must be the name of a header, such as X-Signature")
    return text


def attributes(names: dict[str, str]) -> dict[str, str]:
    """Return attributes of a certificate's subject, each by a name that there is."""
    known = {*ATTRIBUTES, *ATTRIBUTES.values()}
    for name in names:
        if name not in known:
            raise ValueError(f"has an attribute that is not known; known: {', '.join(ATTRIBUTES)}")
    return names


def _key_set(path: object) -> object:
    """Return the text of a file of public keys."""
    text = _read_secret(path)
    if isinstance(text, str):
        # With `cryptography` behind it this is dear, and most need it not.
        from bridge.auth.jwts import Keys, KeySetError  # noqa: PLC0415

        try:
            Keys("").take(text.encode())
        except KeySetError as error:
            raise ValueError(f"{path} is no set of keys: {error}") from error
    return text


def _header(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("may hold visible ASCII characters only, and must not be empty")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text) < MIN_TOKEN:
        raise ValueError(f"must have at least {MIN_TOKEN} characters; make one with `openssl rand -hex 32`")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("may hold visible ASCII characters only; make one with `openssl rand -hex 32`")
    return secret


def _read_secret(path: object) -> object:
    if not isinstance(path, str):
        return path
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a text file") from error


def expression(text: str) -> str:
    """Return an expression of RE2."""
    compiled(text)
    return text


def hash_key(secret: SecretStr) -> SecretStr:
    """Return a key of hashes: whoever guesses it can test guesses of what was hashed."""
    if len(secret.get_secret_value()) < MIN_HASH_KEY:
        raise ValueError(
            f"must have at least {MIN_HASH_KEY} characters; make one with `openssl rand -hex 32`"
        )
    if not secret.get_secret_value().isprintable():
        raise ValueError("must be one line of text; make one with `openssl rand -hex 32`")
    return secret


def _matchers(given: object) -> list[str]:
    """Return one text per matcher, each as `bridge.analysis.matchers.parse` reads it."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be matchers in quotes, such as 'team=\"db\"', or a list of them")
    return [matcher.text for text in texts for matcher in parse_list(text)]


def route_matchers(texts: list[str]) -> list[str]:
    """Return matchers that some alert can fit, as far as its severity goes."""
    for matcher in (parse_list(text)[0] for text in texts):
        if matcher.name == "severity" and not any(map(_holds(matcher), SEVERITY_RANK)):
            raise ValueError(
                f"{matcher.text} can never hold: in a route `severity` is the incident's own, one of "
                f"{', '.join(reversed(SEVERITY_RANK))} (analysis.severities says what counts as which)"
            )
    return texts


def _holds(matcher: Matcher) -> Callable[[str], bool]:
    return lambda severity: matcher.holds({"severity": severity})


def needed(texts: list[str]) -> list[str]:
    """Return matchers; an error if there are none."""
    if not texts:
        raise ValueError("needs at least one matcher, such as 'alertname=\"Watchdog\"'")
    return texts


hash_key_file = BeforeValidator(_read_secret, json_schema_input_type=str)
_DURATION_SCHEMA = WithJsonSchema(
    {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["30s", "1h30m"]}
)
_MATCH_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}], "examples": ['team="db"']}
)
Duration = Annotated[float, BeforeValidator(duration_s), _DURATION_SCHEMA]
LongerDuration = Annotated[float, BeforeValidator(duration_s), AfterValidator(_positive), _DURATION_SCHEMA]
Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    AfterValidator(_positive),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$", "examples": ["64MiB"]}),
]
Name = Annotated[str, AfterValidator(_name)]
Token = Annotated[SecretStr, AfterValidator(_token)]
TokenFile = Annotated[
    SecretStr, BeforeValidator(_read_secret), AfterValidator(_token), WithJsonSchema({"type": "string"})
]
Password = Annotated[SecretStr, AfterValidator(_header)]
PasswordFile = Annotated[
    SecretStr, BeforeValidator(_read_secret), AfterValidator(_header), WithJsonSchema({"type": "string"})
]
Network = Annotated[str, AfterValidator(_network)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
KeySet = Annotated[str, BeforeValidator(_key_set)]
Matchers = Annotated[list[str], BeforeValidator(_matchers), _MATCH_SCHEMA]
Ratio = Annotated[float, Field(ge=0, le=1)]
