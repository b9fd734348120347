"""The mail sender: one SMTP connection per message, with STARTTLS, TLS from the beginning, or neither.

Rules: STARTTLS that was asked for and is not offered ends the attempt: whoever sits in between must not talk us out of
it. Certificates are always checked. No login is tried before the connection is encrypted. What the server said of each
recipient comes back as it was said; no password enters a reason.

Decision: a connection for each message, not kept ones. Mail servers close idle ones within minutes, messages are few,
and an answer that is read from a connection that just died cannot be told from one that says nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from aiohappyeyeballs import start_connection
from tenacity.wait import wait_base
from typing_extensions import override

from bridge.ports import Mail, MailResponse, Request, Response, Sender, Unreached
from connectors.transport.attempts import CONNECT_S, Trust, attempt, short_wait
from connectors.transport.names import Names

if TYPE_CHECKING:
    from aiosmtplib import SMTP

NEXT_ADDRESS_S = 0.25  # RFC 8305 section 5
FAREWELL_S = 1.0  # how long the answer to QUIT is waited for
OK = 250


class MailSender(Sender):
    """Sends `Mail` requests. Use it in one event loop."""

    def __init__(self, *, wait: wait_base | None = None, names: Names | None = None) -> None:
        self._wait = wait if wait is not None else short_wait()
        self._names = names or Names()
        self._trust = Trust()

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Mail):
            return Unreached(reason="not a mail", maybe_sent=False, kind="local")
        return await attempt(lambda: self._once(request, timeout_s), self._wait)

    async def _once(self, request: Mail, timeout_s: float) -> Response:
        talk = _Talk(request)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    context = await self._trust.context(request.ca_file)
                except OSError as error:
                    reason = f"ca_file cannot be used: {error.strerror or type(error).__name__}"
                    return Unreached(reason=reason, maybe_sent=False, kind="local")
                connected = await self._connected(request.address, min(CONNECT_S, timeout_s))
                return await talk.held(connected, context)
        except TimeoutError:
            words = "no connection to" if talk.at == "connect" and not talk.is_open else "no answer from"
            kind: Literal["connect", "timeout"] = "timeout" if talk.is_open else "connect"
            reason = f"{words} {request.address} in time"
            return Unreached(reason=reason, maybe_sent=talk.may_have_sent, kind=kind)
        except OSError as error:  # that a connection broke off is one for aiosmtplib, too
            return _broken(request, talk, error)

    async def _connected(self, address: str, within_s: float) -> socket.socket:
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(within_s):
            found = await self._names.addresses(host.strip("[]"), int(port))
            return await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)

    @override
    async def close(self) -> None:
        """Nothing is kept open."""


def _broken(request: Mail, talk: _Talk, error: OSError) -> Unreached:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLError):
        words = getattr(cause, "verify_message", "") or cause.reason or "the handshake failed"
        return Unreached(reason=f"TLS with {request.address}: {words}", maybe_sent=False, kind="tls")
    inner = cause if isinstance(cause, OSError) else error
    words = inner.strerror or str(inner) or type(inner).__name__
    if talk.is_open:
        reason = f"{request.address} broke off: {words}"
        return Unreached(reason=reason, maybe_sent=talk.may_have_sent, kind="reset")
    return Unreached(reason=f"no connection to {request.address}: {words}", maybe_sent=False, kind="connect")


class _Talk:
    """One message's conversation with a server; `at` is the command that is waited for."""

    def __init__(self, request: Mail) -> None:
        self._request = request
        self.at: Literal["connect", "hello", "auth", "mail", "rcpt", "data"] = "connect"
        self.is_open = False

    @property
    def may_have_sent(self) -> bool:
        """Whether the server may have the message although its answer did not come."""
        return self.at == "data"

    async def held(self, connected: socket.socket, context: ssl.SSLContext) -> Response:
        # Imported at the first mail: whoever sends none does not pay for it.
        from aiosmtplib import SMTP, SMTPException, SMTPResponseException  # noqa: PLC0415

        request = self._request
        self.is_open = True
        client = SMTP(
            hostname=request.address.rpartition(":")[0].strip("[]"),
            sock=connected,
            use_tls=request.security == "tls",
            start_tls=False,
            tls_context=context,
            local_hostname=request.hello,
            timeout=None,  # ours is the one that counts
        )
        try:
            return await self._said(client)
        except SMTPResponseException as error:
            return MailResponse(code=error.code, text=_of(error.message), to=self.at)
        except (ConnectionError, TimeoutError):
            raise
        except SMTPException as error:  # STARTTLS or AUTH are not offered
            return Unreached(reason=f"{request.address}: {_of(str(error))}", maybe_sent=False, kind="tls")
        finally:
            client.close()
            await asyncio.sleep(0)  # one turn for the transport to see that it is closed

    async def _said(self, client: SMTP) -> Response:
        from aiosmtplib import SMTPRecipientRefused  # noqa: PLC0415

        request = self._request
        await client.connect()
        self.at = "hello"
        if request.security == "starttls":
            await client.starttls()
        await client.ehlo()
        if request.username:
            self.at = "auth"
            await client.login(request.username, request.password)
        if not request.recipients:
            await _quit(client)
            return MailResponse(code=OK, text="", to="hello")
        self.at = "mail"
        size = (f"size={len(request.message)}",) if client.supports_extension("size") else ()
        await client.mail(request.sender, options=size)
        self.at = "rcpt"
        refused: dict[str, tuple[int, str]] = {}
        for recipient in request.recipients:
            try:
                await client.rcpt(recipient)
            except SMTPRecipientRefused as error:
                refused[recipient] = (error.code, _of(error.message))
        if len(refused) == len(request.recipients):
            code, text = next(iter(refused.values()))
            await _quit(client)
            return MailResponse(code=code, text=text, to="rcpt", refused=refused)
        self.at = "data"
        answer = await client.data(request.message)
        await _quit(client)
        return MailResponse(code=answer.code, text=_of(answer.message), to="data", refused=refused)


async def _quit(client: SMTP) -> None:
    """Take leave; what the server has, it has, whatever it says now."""
    from aiosmtplib import SMTPException  # noqa: PLC0415

    with suppress(SMTPException, OSError, TimeoutError):
        await client.quit(timeout=FAREWELL_S)


def _of(text: str) -> str:
    return " ".join(text.split())
