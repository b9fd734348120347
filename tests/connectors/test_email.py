"""E-mail against a real SMTP server: who gets what, in which thread, and that no text can add to it."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from builders import START, event
from certificates import make_certificate
from destinations import NASTY, build, nasty_event
from msgspec.structs import replace
from pydantic import ValidationError
from servers import free_port
from tenacity import wait_none

from bridge.model import Blocked, Delivered, EventKind, Reject, Retry, Split
from bridge.ports import Append, Mail, MailResponse, Unreached
from connectors.transport.mail import MailSender

K = EventKind
ONCALL, TEAM = "oncall@example.com", "shop-team@example.com"
PASSWORD = "mail-password-example"


@dataclass
class Mailboxes:
    """A mail server: whom it refuses, and what it took."""

    refuses: dict[str, str] = field(default_factory=dict)  # by recipient
    says: str = "250 taken"  # to a whole message
    answers_data: bool = True
    got: list[tuple[tuple[str, ...], EmailMessage]] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    address: str = ""

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's names
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, _session, envelope):  # noqa: N802
        if self.says.startswith("250"):
            message = message_from_bytes(envelope.content, policy=policy.SMTP)
            self.got.append((tuple(envelope.rcpt_tos), message))
        if not self.answers_data:
            server.transport.abort()
        return self.says

    def authenticate(self, _server, _session, _envelope, _mechanism, data):
        known = data.login == b"tocsin" and data.password == PASSWORD.encode()
        self.users.append(data.login.decode())
        return AuthResult(success=known, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("mail"))


@asynccontextmanager
async def serving(boxes: Mailboxes, certificate=None, security="plain"):
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    options = {"hostname": "mail.example.com"}
    if security == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if security != "plain":
        options |= {
            "authenticator": boxes.authenticate,
            "auth_required": security == "starttls",  # it does not know that it is within TLS otherwise
            "auth_require_tls": security == "starttls",
        }
    talks: list[SMTP] = []

    def talk() -> SMTP:
        talks.append(SMTP(boxes, **options))
        return talks[-1]

    server = await asyncio.get_running_loop().create_server(
        talk, "127.0.0.1", 0, ssl=context if security == "tls" else None
    )
    boxes.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield boxes
    finally:
        server.close()
        for each in talks:
            if each.transport is not None:
                with suppress(AttributeError):  # one within TLS that has ended, in Python 3.11.2
                    each.transport.abort()
            if each._handler_coroutine is not None:
                each._handler_coroutine.cancel()
        if waited := [each._handler_coroutine for each in talks if each._handler_coroutine]:
            await asyncio.wait(waited, timeout=1)


async def deliver(connector, each, memory=None, step="", timeout_s=5):
    rendered = connector.render([each], memory, step)
    sealed = connector.seal(rendered.request, rendered.event_ids, START)
    response = await MailSender(wait=wait_none()).send(sealed, timeout_s=timeout_s)
    return connector.judge(rendered, response)[0]


async def probe(connector):
    return await MailSender(wait=wait_none()).send(connector.seal(connector.probe(), (), START), timeout_s=5)


def relay(boxes, to=(ONCALL, TEAM), **settings):
    return build("email_relay", server=boxes.address, to=list(to), **settings)


def text_of(message: EmailMessage) -> str:
    return message.get_body(("plain",)).get_content().replace("\r\n", "\n")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_mail_arrives_encrypted_and_logged_in(certificate, security):
    async with serving(Mailboxes(), certificate, security) as boxes:
        connector = build("email", server=boxes.address, security=security, ca_file=str(certificate[0]))
        assert await probe(connector) == MailResponse(code=250, text="", to="hello")

        assert isinstance(await deliver(connector, event()), Delivered)

    ((recipients, message),) = boxes.got
    assert recipients == (ONCALL, TEAM)
    assert boxes.users == ["tocsin", "tocsin"]
    assert message["To"] == f"{ONCALL}, {TEAM}"
    assert message["Subject"] == "[critical] checkout: HighLatency on 2 instances"
    assert text_of(message).startswith(
        "Opened: checkout: HighLatency on 2 instances\n\ncritical, open, 2 of 2"
    )
    assert "<b>Opened</b>" in message.get_body(("html",)).get_content()


async def test_a_wrong_password_blocks_and_is_not_repeated(certificate):
    async with serving(Mailboxes(), certificate, "starttls") as boxes:
        connector = build(
            "email", server=boxes.address, ca_file=str(certificate[0]), password="not-the-password"
        )
        verdict = await deliver(connector, event())

    assert isinstance(verdict, Blocked)
    assert verdict.reason.startswith("535 to auth")
    assert "not-the-password" not in verdict.reason
    assert boxes.got == []


@pytest.mark.parametrize(
    "said",
    [f"\0tocsin\0{PASSWORD}", PASSWORD],  # AUTH PLAIN, AUTH LOGIN
)
@pytest.mark.parametrize("padding", ["", "="])
def test_a_login_that_the_server_repeats_stands_in_no_reason(said, padding):
    spoken = base64.b64encode(said.encode()).decode().rstrip("=") + padding
    connector = build("email")
    made = connector.render([event()], None, "")
    text = f"unrecognized command: AUTH PLAIN {spoken}"
    answers = [
        MailResponse(code=502, text=text, to="auth"),
        MailResponse(code=550, text="", to="rcpt", refused={TEAM: (550, text)}),
    ]

    for each in answers:
        (verdict,) = connector.judge(made, each)
        assert "unrecognized command: AUTH PLAIN ***" in verdict.reason
        assert spoken.rstrip("=") not in verdict.reason


async def test_a_server_that_hides_starttls_gets_neither_password_nor_mail():
    async with serving(Mailboxes()) as boxes:
        verdict = await deliver(build("email", server=boxes.address), event())

    assert isinstance(verdict, Blocked)
    assert "STARTTLS" in verdict.reason
    assert (boxes.got, boxes.users) == ([], [])


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_is_not_trusted_blocks(certificate, security):
    async with serving(Mailboxes(), certificate, security) as boxes:
        verdict = await deliver(build("email", server=boxes.address, security=security), event())

    assert isinstance(verdict, Blocked)
    assert "self-signed certificate" in verdict.reason
    assert boxes.users == []


async def test_everything_about_an_incident_is_one_thread_under_one_subject():
    async with serving(Mailboxes()) as boxes:
        connector = relay(boxes)
        first = await deliver(connector, event())
        second = await deliver(connector, event(K.ESCALATED, 3, title="checkout: it is worse"), first.memory)
        await deliver(connector, event(K.CLOSED, 4), second.memory)

    opened, escalated, closed = (message for _, message in boxes.got)
    assert opened["Message-ID"] == "<3f1c9a7d52e84b06.1@example.com>"
    assert opened["References"] is None
    assert escalated["Message-ID"] == "<3f1c9a7d52e84b06.3@example.com>"
    assert {each["References"] for each in (escalated, closed)} == {opened["Message-ID"]}
    assert {each["In-Reply-To"] for each in (escalated, closed)} == {opened["Message-ID"]}
    assert {each["Subject"] for each in (escalated, closed)} == {f"Re: {opened['Subject']}"}
    assert text_of(escalated).startswith("Escalated: checkout: it is worse\n")
    assert text_of(closed).startswith("Closed after 4 s: ")
    assert (escalated["Importance"], closed["Importance"]) == ("high", None)
    assert {each["Auto-Submitted"] for each in (opened, closed)} == {"auto-generated"}


async def test_a_repeat_is_the_same_mail_to_the_byte():
    async with serving(Mailboxes()) as boxes:
        connector = relay(boxes)
        await deliver(connector, event())
        await deliver(connector, event())

    assert boxes.got[0][1].as_bytes() == boxes.got[1][1].as_bytes()


async def test_hostile_texts_add_no_header_no_recipient_and_no_part():
    each = nasty_event(size=500, count=30)
    evil = "x\r\nBcc: thief@example.com\r\n\r\n.\r\nMAIL FROM:<thief@example.com>\r\n--=_" + each.event_id
    async with serving(Mailboxes()) as boxes:
        await deliver(
            relay(boxes), event(title=evil, summary=evil + "\r\n.\r\nQUIT", common_labels={"a": evil})
        )
        await deliver(relay(boxes), each)

    plain = None
    for recipients, message in boxes.got:
        assert recipients == (ONCALL, TEAM)
        assert "Bcc" not in message
        assert len(message.get_all("Subject")) == 1
        assert [part.get_content_type() for part in message.walk()] == [
            "multipart/alternative", "text/plain", "text/html",
        ]  # fmt: skip
        assert message.defects == []
        plain = message
    assert "<!channel>" in str(plain["Subject"])  # it arrives as it is, as text
    page = plain.get_body(("html",)).get_content()
    assert "<!channel>" not in page
    assert "&lt;!channel&gt;" in page
    assert NASTY[-12:] in text_of(plain)


async def test_a_line_that_is_a_dot_does_not_end_the_mail():
    async with serving(Mailboxes()) as boxes:
        await deliver(relay(boxes), event(summary="before\n.\n..\nafter"))

    assert "\nbefore\n.\n..\nafter\n" in text_of(boxes.got[0][1])


async def test_who_is_refused_for_now_gets_the_mail_later_and_nobody_gets_it_twice():
    async with serving(Mailboxes(refuses={TEAM: "451 4.7.1 greylisted"})) as boxes:
        connector = relay(boxes)
        first = await deliver(connector, event())
        again = await deliver(connector, event(), first.memory, first.next_step)
        boxes.refuses.clear()
        last = await deliver(connector, event(), first.memory, first.next_step)

    assert (first.next_step, last.next_step) == (TEAM, "")
    assert again == Reject(reason=f"refused for {TEAM} (451: 4.7.1 greylisted)", final=False)
    assert [recipients for recipients, _ in boxes.got] == [(ONCALL,), (TEAM,)]


async def test_a_server_that_shuts_down_says_nothing_about_who_is_left():
    async with serving(Mailboxes(refuses={TEAM: "421 4.3.2 shutting down"})) as boxes:
        told = await deliver(relay(boxes), event(), step=TEAM)

    assert isinstance(told, Retry)
    assert told.whole_destination


async def test_who_is_refused_for_good_is_a_dead_letter_that_says_who_and_others_have_the_mail():
    async with serving(Mailboxes(refuses={TEAM: "550 5.1.1 no such user"})) as boxes:
        connector = relay(boxes)
        first = await deliver(connector, event())
        last = await deliver(connector, event(), first.memory, first.next_step)

    assert last == Reject(reason=f"refused for {TEAM} (550: 5.1.1 no such user)")
    assert [recipients for recipients, _ in boxes.got] == [(ONCALL,)]


async def test_where_nobody_is_taken_the_settings_are_at_fault_and_nothing_is_thrown_away():
    async with serving(Mailboxes(refuses=dict.fromkeys((ONCALL, TEAM), "550 relaying denied"))) as boxes:
        assert isinstance(await deliver(relay(boxes), event()), Blocked)
        boxes.refuses[TEAM] = "452 too many recipients"
        assert isinstance(await deliver(relay(boxes), event()), Retry)


async def test_who_was_taken_out_of_the_settings_is_waited_for_no_longer():
    async with serving(Mailboxes(refuses={TEAM: "550 gone"})) as boxes:
        left = await deliver(relay(boxes), event())
        assert isinstance(await deliver(relay(boxes, to=[ONCALL]), event(), step=left.next_step), Delivered)

    assert [recipients for recipients, _ in boxes.got] == [(ONCALL,)]


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ("451 4.3.0 try later", Retry),
        ("554 5.7.1 looks like spam", Reject),
        ("552 5.3.4 too big for us", Split),
        ("421 4.3.2 shutting down", Retry),
    ],
)
async def test_what_is_said_to_the_whole_mail_is_about_the_mail(says, verdict):
    async with serving(Mailboxes(says=says)) as boxes:
        told = await deliver(relay(boxes), event())

    assert isinstance(told, verdict)
    assert told.reason == f"{says[:3]} to data: {says[4:]}"
    assert getattr(told, "whole_destination", False) == says.startswith("421")


async def test_an_answer_that_is_lost_may_have_been_sent_and_is_the_same_mail_again():
    async with serving(Mailboxes(answers_data=False)) as boxes:
        told = await deliver(relay(boxes), event())

    assert isinstance(told, Retry)
    assert told.maybe_sent
    assert len(boxes.got) == 1


async def test_a_server_that_is_not_there_is_waited_for():
    told = await deliver(build("email_relay", server=f"127.0.0.1:{free_port()}"), event())

    assert isinstance(told, Retry)
    assert told.whole_destination
    assert not told.maybe_sent


async def test_a_server_that_says_nothing_takes_no_longer_than_the_attempt_may():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        told = await deliver(build("email_relay", server=address), event(), timeout_s=0.3)

    assert told == Retry(reason=f"no answer from {address} in time", whole_destination=True)


async def test_another_protocol_is_refused():
    assert isinstance(await MailSender().send(Append(path="x", lines=b""), timeout_s=1), Unreached)


def test_a_mere_update_is_no_mail_but_a_note_is():
    connector = build("email")

    assert not connector.wants(event(K.UPDATED), None)
    assert connector.wants(event(K.REMINDER), None)
    noted = replace(event(K.UPDATED), note="on\nit", author="mia")
    assert connector.wants(noted, None)
    request = connector.render([noted], None, "").request
    assert isinstance(request, Mail)
    assert b"Note by mia:\r\non\r\nit\r\n" in request.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"security": "plain"}, "a password is not sent in plain"),
        ({"password": None}, "username and password go together"),
        ({"to": []}, "at least 1 item"),
        ({"to": ["a@example.com", "a@example.com"]}, "stands twice"),
        ({"to": ["Mia <mia@example.com>"]}, "without a name"),
        ({"to": ["a@example.com\r\nRCPT TO:<b@example.com>"]}, "expected an address"),
        ({"sender": "tocsin@example.com\n"}, "expected an address"),
        ({"server": "mail.example.com"}, "expected host:port"),
    ],
)
def test_settings_that_cannot_work_are_faults(changes, words):
    with pytest.raises(ValidationError, match=words):
        build("email", **changes)


@pytest.mark.parametrize("sent", [b"\0tocsin\0mail-password-example", b"mail-password-example"])
def test_a_login_that_the_server_repeats_is_hidden(sent):
    connector = build("email")
    rendered = connector.render([event()], None, "")
    line = base64.b64encode(sent).decode()

    (verdict,) = connector.judge(rendered, MailResponse(code=502, text=f"unknown: {line}", to="auth"))

    assert verdict.reason.rstrip("=") == "502 to auth: unknown: ********"
