"""The connector: whom an event is mailed to, and what is made of the server's answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, EventKind, Reject, Retry, Split, Verdict
from bridge.ports import Caps, Connector, Mail, MailResponse, Memory, Rendered, Request, Response, Unreached
from connectors.common import clip, excerpt, judge_unreached, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    Secret,
    mail_logins,
)
from connectors.kinds.email.message import message_id, messages, subject_of

MAX_PORT, MAX_ADDRESS, MAX_RECIPIENTS = 65535, 254, 20
OK, FINE, FOR_GOOD = 200, 300, 500
SHUTTING_DOWN, TOO_LARGE = 421, 552
REASON_CHARACTERS = 300
#: RFC 5321, without comments, quotes and literals, which nobody's mailbox needs.
_is_mailbox = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*").fullmatch


def _check_server(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= MAX_PORT:
        raise ValueError("expected host:port")
    return address


def _check_mailbox(address: str) -> str:
    if len(address) > MAX_ADDRESS or not _is_mailbox(address):
        raise ValueError("expected an address such as oncall@example.com, without a name")
    return address


Mailbox = Annotated[str, AfterValidator(_check_mailbox)]


class EmailSettings(DestinationSettings):
    """Through which server to whom."""

    kind: Literal["email"] = pydantic.Field(default="email", description=KIND)
    server: Annotated[str, AfterValidator(_check_server)] = pydantic.Field(
        description="Mail server as host:port; 587 for STARTTLS, 465 for TLS, 25 for a relay nearby."
    )
    security: Literal["starttls", "tls", "plain"] = pydantic.Field(
        default="starttls", description="starttls, tls from the beginning, or plain (no login then)."
    )
    username: Annotated[str, pydantic.Field(min_length=1, max_length=255)] | None = pydantic.Field(
        default=None, description="User to log in as; null for no login."
    )
    password: Secret | None = pydantic.Field(default=None, description="Password of this user.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    sender: Mailbox = pydantic.Field(description="Address that mails come from.")
    to: Annotated[list[Mailbox], pydantic.Field(min_length=1, max_length=MAX_RECIPIENTS)] = pydantic.Field(
        description="Addresses that mails go to, at most 20; for more make a list at the mail server."
    )
    max_bytes: int = pydantic.Field(
        default=256 * 1024, ge=SMALLEST_BYTES, description="Largest mail in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset()

    @pydantic.model_validator(mode="after")
    def _login(self) -> EmailSettings:
        if (self.username is None) is not (self.credential("password") is None):
            raise ValueError("username and password go together")
        if self.username is not None and self.security == "plain":
            raise ValueError("security: a password is not sent in plain; take starttls or tls")
        if len(set(self.to)) < len(self.to):
            raise ValueError("to: an address stands twice")
        return self


class Email(Connector):
    """Mails what a person should notice."""

    Settings: ClassVar[type[EmailSettings]] = EmailSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "mail",
        "kind": "email",
        "server": "mail.example.com:587",
        "username": "tocsin",
        "password": "mail-password-example",
        "sender": "tocsin@example.com",
        "to": ["oncall@example.com", "shop-team@example.com"],
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=256 * 1024,
        delivery_class="at least once, deduplicate on event_id",
        wait_s=30.0,
    )

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._password = password = settings.credential("password")
        self._secrets = (
            () if password is None else (password, *mail_logins(settings.username or "", password))
        )
        self._domain = settings.sender.rpartition("@")[2]
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind is not EventKind.UPDATED or bool(event.note)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, memory = events[0], memory or {}
        root, subject = memory.get("root", ""), memory.get("subject") or subject_of(event)
        recipients = self._settings.to
        made = messages(
            event, sender=self._settings.sender, recipients=recipients, root=root, subject=subject
        )
        body = smallest(made, min(max_bytes or self.caps.max_bytes, self.caps.max_bytes))
        # A step names those who are left; whoever is not in the settings any more gets nothing.
        left = tuple(each for each in recipients if not step or each in step.split())
        about = {"root": root or message_id(event, self._domain), "subject": subject}
        return Rendered(request=self._mail(left, body, about), event_ids=(event.event_id,), step=step)

    def _mail(self, recipients: tuple[str, ...], message: bytes, about: Memory) -> Mail:
        settings = self._settings
        return Mail(
            address=settings.server,
            security=settings.security,
            sender=settings.sender,
            recipients=recipients,
            message=message,
            hello=self._domain,
            ca_file=settings.ca_file,
            about=about,
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict: Verdict = Reject(reason="the answer is of another protocol")
        if isinstance(response, Unreached):
            verdict = judge_unreached(response)
        elif isinstance(response, MailResponse) and isinstance(rendered.request, Mail):
            verdict = self._judge(rendered.request, response, is_later=rendered.step != "")
        return (verdict,) * len(rendered.event_ids)

    def _judge(self, request: Mail, response: MailResponse, *, is_later: bool) -> Verdict:
        """Return what the server's word means for the event; later steps are about those it refused before."""
        if OK <= response.code < FINE:
            left = " ".join(each for each in request.recipients if each in response.refused)
            return Delivered(memory=request.about or None, next_step=left)
        reason = self._reason(response)
        codes = {code for code, _ in response.refused.values()} if response.to == "rcpt" else {response.code}
        if any(code < FOR_GOOD for code in codes | {response.code}):
            if response.to == "rcpt" and is_later and response.code != SHUTTING_DOWN:
                # The others have the mail, so it is this mailbox (it is full) and no fault of the server. It may
                # not hold what follows for ever.
                return Reject(reason=reason, final=False)
            is_general = response.to in {"connect", "hello", "auth"} or response.code == SHUTTING_DOWN
            return Retry(reason=reason, whole_destination=is_general)
        if response.code == TOO_LARGE and response.to in {"mail", "data"}:
            return Split(reason=reason)
        if response.to == "data" or (response.to == "rcpt" and is_later):
            return Reject(reason=reason)
        return Blocked(reason=reason)

    def _reason(self, response: MailResponse) -> str:
        """Return what was refused and why, of recipients each with what was said of it."""
        if response.to != "rcpt" or not response.refused:
            return f"{response.code} to {response.to}{excerpt(response.text.encode(), self._secrets)}"
        said = (
            f"{address} ({code}{excerpt(text.encode(), self._secrets)})"
            for address, (code, text) in response.refused.items()
        )
        return clip("refused for " + ", ".join(said), REASON_CHARACTERS)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Mail):
            return request
        settings, password = self._settings, self._password
        return msgspec.structs.replace(
            request,
            address=settings.server,
            security=settings.security,
            sender=settings.sender,
            ca_file=settings.ca_file,
            username=settings.username or "",
            password="" if password is None else password.reveal(),
        )

    @override
    def probe(self) -> Request:
        return self._mail((), b"", {})
