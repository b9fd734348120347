"""The secrets of a destination: where they come from, how they are hidden, how they sign.

Rules: a secret is a `Secret` from the moment the configuration is read; its text is seen only by `reveal`,
which only a `seal` calls. No secret is stored, logged or put into a message.

Decision: a type of our own rather than pydantic's `SecretStr`: it refuses what cannot stand in an HTTP header
(control characters, empty text) when the configuration is read instead of at the first incident, and it can
take itself out of a text that a destination echoes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, unquote, urlsplit

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict
from pydantic_core import CoreSchema, core_schema
from standardwebhooks import Webhook
from typing_extensions import override

from connectors.templates import Template

STARS = "********"
SMALLEST_BYTES = (
    4096  # the least that `max_bytes` of a destination can be; ids, counts and a title need 2 KiB
)
SEGMENT_CHARACTERS = 8  # shorter parts of an URL ("hooks", "v1") are words, not secrets
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64  # Source: Standard Webhooks, "Signature scheme"
#: How a bearer token is signed. Those of elliptic curves over P-256 are left out: they differ at each signing.
TokenAlgorithm = Literal["HS256", "RS256", "EdDSA"]
TOKEN_S = 300  # a bearer token holds so long
MIN_TOKEN_KEY_BYTES = 32  # RFC 7518 section 3.2, of a key that both sides share


class Secret:
    """A text that shows itself only to `reveal`; compared by value."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not text or not text.isascii() or not all(each.isprintable() or each == "\n" for each in text):
            raise ValueError("a secret is printable ASCII text and not empty")
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def each(self) -> tuple[Secret, ...]:
        """Return the secrets that stand in this one, apart by white space: several while one is rotated."""
        return tuple(Secret(part) for part in self._text.split())

    @override
    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    @override
    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def _of(cls, value: object) -> Secret:
        if isinstance(value, Secret):  # read from a file already
            return value
        if not isinstance(value, str):
            raise ValueError("expected a text")  # noqa: TRY004 (pydantic collects ValueError)
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strict=True))
        return core_schema.json_or_python_schema(
            json_schema=from_text,
            python_schema=core_schema.no_info_plain_validator_function(cls._of),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _secret: STARS),
        )


def _read(path: object) -> object:
    if not isinstance(path, str):
        return path
    try:
        return Secret(Path(path).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text") from error


#: A setting that names a file; its value is the secret in it, white space around it taken off.
FromFile = Annotated[Secret, BeforeValidator(_read)]


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if any(each.isspace() for each in url):
        raise ValueError("an URL has no white space")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("expected http://host... or https://host...")
    if "@" in parts.netloc:
        # It would be stored and shown with the address, and no kind signs in that way.
        raise ValueError("an URL holds no user and password; take them out")
    return parts


def _check_url(url: str) -> str:
    _split(url)
    return url


def _check_secret_url(url: Secret) -> Secret:
    _split(url.reveal())
    return url


def _check_origin(url: str) -> str:
    parts = _split(url)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("expected scheme, host and port only, such as https://host.example.com:8088")
    return url


def _check_base(url: str) -> str:
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError("an address that paths are added to has no ? and no #")
    return url.rstrip("/")


def _check_certificates(path: str) -> str:
    if not path:
        return path
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN" not in text or b"CERTIFICATE-----" not in text:
        raise ValueError(f"{path} holds no certificate in PEM form")
    return path


#: The file of the authorities to trust; "" is the system's own.
CaFile = Annotated[str, AfterValidator(_check_certificates)]
#: An address to which the kind adds its own paths.
OriginUrl = Annotated[str, AfterValidator(_check_origin)]
#: The same, where the destination may stand below a path (behind a proxy); kept without a slash at its end.
BaseUrl = Annotated[str, AfterValidator(_check_base)]
HttpUrl = Annotated[str, AfterValidator(_check_url)]
SecretUrl = Annotated[Secret, AfterValidator(_check_secret_url)]
SecretUrlFromFile = Annotated[Secret, BeforeValidator(_read), AfterValidator(_check_secret_url)]


def origin(url: Secret) -> str:
    """Return the part of a secret URL that is none: scheme, host and port."""
    parts = _split(url.reveal())
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "") + "/"


#: What several kinds say of the same settings.
KIND = "Which connector."
CA_FILE = "PEM file of the authorities to trust; empty for the system's."


#: Settings of every destination, whatever its kind; `tailoring` follows them.
OF_ALL_KINDS = ("title", "text", "accept_on", "drop_on", "retry_on")
Status = Annotated[int, pydantic.Field(ge=100, le=599)]


class DestinationSettings(pydantic.BaseModel):
    """What every block under `destinations:` has. A secret `x` has a twin `x_file`; one of the two is set."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, pydantic.Field(min_length=1, max_length=100, description="Name that routes use.")]
    title: Template | None = pydantic.Field(
        default=None,
        description="Title in words of your own with {fields} (docs/connectors.md); null for the incident's.",
    )
    text: Template | None = pydantic.Field(
        default=None,
        description="Text in words of your own with {fields}; null for the incident's summary.",
    )
    accept_on: list[Status] = pydantic.Field(
        default=[], description="HTTP statuses that are a success, whatever the body says."
    )
    drop_on: list[Status] = pydantic.Field(
        default=[], description="HTTP statuses after which an event is given up: it becomes a dead letter."
    )
    retry_on: list[Status] = pydantic.Field(
        default=[], description="HTTP statuses after which an event is tried again."
    )

    @property
    def is_tailored(self) -> bool:
        """Whether something is told otherwise than the kind does."""
        return any(bool(getattr(self, field)) for field in OF_ALL_KINDS)

    @pydantic.model_validator(mode="after")
    def _one_meaning_each(self) -> Self:
        lists = {"accept_on": self.accept_on, "drop_on": self.drop_on, "retry_on": self.retry_on}
        named = [(status, name) for name, statuses in lists.items() for status in dict.fromkeys(statuses)]
        first: dict[int, str] = {}
        for status, name in named:
            if status in first:
                raise ValueError(f"{status} stands in {first[status]} and in {name}; one of them is meant")
            first[status] = name
        return self

    @pydantic.model_validator(mode="after")
    def _one_of_the_twins(self) -> Self:
        for twin in type(self).model_fields:
            field = twin.removesuffix("_file")
            if field != twin and field in type(self).model_fields:
                self._check_twins(field, twin)
        return self

    def _check_twins(self, field: str, twin: str) -> None:
        given = [key for key in (field, twin) if getattr(self, key) is not None]
        if len(given) > 1 or (not given and field in self.required()):
            raise ValueError(f"give exactly one of {field} and {twin}")

    def faults(self, data_dir: Path) -> dict[str, str]:  # noqa: ARG002 (for those who override it)
        """Return what is wrong with settings beside a store in `data_dir`: by key, what to write instead."""
        return {}

    def required(self) -> frozenset[str]:
        """Return the secrets that must be given, in either form; all, unless a kind says otherwise."""
        return frozenset(type(self).model_fields)

    def credential(self, field: str) -> Secret | None:
        """Return the secret `field`, wherever it was given; None if it was not."""
        inline, from_file = getattr(self, field), getattr(self, f"{field}_file")
        secret: Secret | None = inline if inline is not None else from_file
        return secret

    def needed(self, field: str) -> Secret:
        """Return the secret `field`, which validation has made sure of."""
        secret = self.credential(field)
        if secret is None:
            raise ValueError(f"{field} is not set")
        return secret


def hidden(text: str, secrets: Iterable[Secret | None]) -> str:
    """Return `text` with every secret in it replaced by stars: some destinations echo what they were sent.

    Found as it is, and with any of its characters escaped as URLs, JSON or HTML do it.
    """
    found = {part: pattern for secret in secrets if secret for part, pattern in _patterns(secret)}
    for part in sorted(found, key=lambda each: (-len(each), each)):
        text = found[part].sub(STARS, text)
    return text


@lru_cache(maxsize=256)  # some milliseconds for a key of 2 KiB
def _patterns(secret: Secret) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((part, re.compile("".join(map(_escaped, part)))) for part in _parts(secret))


def _parts(secret: Secret) -> set[str]:
    # Web servers answer with the path that was asked for ("Cannot POST /hooks/..."): it is the secret, then.
    text = secret.reveal()
    if not text.startswith(("http://", "https://")):
        return {text, *text.split()}
    url = urlsplit(text)
    values = [value for pair in url.query.split("&") for value in pair.split("=", 1)[1:]]
    within = {url.path, url.query, *url.path.split("/"), *values}
    within |= {unquote(part) for part in (text, *within)}
    return {text, *(part for part in within if len(part) >= SEGMENT_CHARACTERS)}


def _escaped(character: str) -> str:
    """Return an expression for a character that may be escaped.

    Any may be, whatever the others are: a client that sends an URL escapes and unescapes some of them on the way.
    Every form begins with a literal, which is what lets `re` skip quickly to where a secret may begin.
    """
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    forms = [
        rf"\\{re.escape(character)}", re.escape(json.dumps(character)[1:-1]),
        rf"\\u{_hexadecimal(code, 4)}", f"&#0?{code};", f"&#[xX]0?{_hexadecimal(code, 2)};",
        re.escape(html.escape(character)), "".join(f"%(?:25)?{_hexadecimal(each, 2)}" for each in character.encode()),
    ]  # fmt: skip
    if character in "+ ":
        forms += ["[+]", " "]  # in the query of an URL they are the same
    plain = re.escape(character)
    forms = [form for form in dict.fromkeys(forms) if form != plain]
    return f"(?:{'|'.join([*forms, plain])})"  # last: `&`, `%` and `\\` begin others


def _hexadecimal(number: int, digits: int) -> str:
    return f"(?:{number:0{digits}x}|{number:0{digits}X})"


def check_one_way_in(settings: DestinationSettings, key: str) -> None:
    """Raise `ValueError` unless `username` and `password` are given together, and not beside the secret `key`.

    Giving neither is allowed: a destination within one's own walls may ask for nothing.
    """
    has_password = settings.credential("password") is not None
    if has_password != bool(getattr(settings, "username", "")):
        raise ValueError("username and password go together")
    if has_password and settings.credential(key) is not None:
        raise ValueError(f"give either {key} or username and password")


def basic(user: str, password: Secret) -> Secret:
    """Return what stands behind `Basic ` in the header for a user and a password (RFC 7617, in UTF-8)."""
    return Secret(base64.b64encode(f"{user}:{password.reveal()}".encode()).decode())


def mail_logins(user: str, password: Secret) -> tuple[Secret, ...]:
    """Return what a mail client sends for a user and a password by AUTH PLAIN (RFC 4616) and AUTH LOGIN."""
    texts = (f"\0{user}\0{password.reveal()}", password.reveal())
    # Without the padding: it may be left out, and says nothing.
    return tuple(Secret(base64.b64encode(text.encode()).decode().rstrip("=")) for text in texts)


def check_signing(secret: Secret) -> Secret:
    """Return `secret` if each key in it is one of Standard Webhooks: `whsec_`, base64 of 24 to 64 bytes."""
    for key in secret.each():
        try:
            size = len(base64.b64decode(key.reveal().removeprefix("whsec_"), validate=True))
        except binascii.Error as error:
            raise ValueError("a signing secret is whsec_ and base64") from error
        if not MIN_KEY_BYTES <= size <= MAX_KEY_BYTES:
            raise ValueError(
                f"a signing secret has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, this has {size}"
            )
    return secret


SigningSecret = Annotated[Secret, AfterValidator(check_signing)]
SigningSecretFromFile = Annotated[Secret, BeforeValidator(_read), AfterValidator(check_signing)]


def signatures(secret: Secret, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of Standard Webhooks v1 for one attempt at `now`.

    All keys sign while one is rotated: the receiver accepts a message as soon as one signature fits.
    """
    # The library takes the wall clock of whatever zone it is given for UTC, so it must be given UTC.
    at = now.astimezone(UTC)
    signed = (Webhook(key.reveal()).sign(message_id, at, body.decode()) for key in secret.each())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signed),
    }


def check_token_key(key: Secret, algorithm: TokenAlgorithm) -> None:
    """Try a key of bearer tokens.

    Raises:
        ValueError: It is not one of `algorithm`. The key is not in the message.
    """
    if algorithm == "HS256" and len(key.reveal()) < MIN_TOKEN_KEY_BYTES:
        raise ValueError(f"a key of HS256 has at least {MIN_TOKEN_KEY_BYTES} characters")
    import jwt  # noqa: PLC0415 - with cryptography in its wake, for those who ask for tokens alone

    try:
        jwt.encode({}, key.reveal(), algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        what = (
            "a secret text and no PEM"
            if algorithm == "HS256"
            else "a private key in PEM form without password"
        )
        raise ValueError(f"not a key of {algorithm}, which is {what}") from error


def bearer(
    key: Secret, algorithm: TokenAlgorithm, audience: str, message_id: str, now: datetime, body: bytes
) -> str:
    """Return the bearer token (RFC 7519) of one attempt at `now`; it fits this message at this endpoint alone."""
    import jwt  # noqa: PLC0415 - as above

    issued_s = int(now.timestamp())
    claims = {
        "iss": "tocsin",
        "aud": audience,
        "jti": message_id,
        "iat": issued_s,
        "exp": issued_s + TOKEN_S,
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    return jwt.encode(claims, key.reveal(), algorithm=algorithm)
