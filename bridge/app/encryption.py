"""TLS of the address that the front listens on, with certificates that may be replaced while it runs.

Rules: TLS 1.2 and later, as Python's `ssl` sets a server up. New files are taken over only if they fit together; with a
fault the old ones stay. Connections that are open keep what they began with. Whether there is TLS at all, and whether a
client certificate is required, is settled at the start.

Theory of operation. The context that listens never changes. At each handshake it hands the connection over to the
newest context, which OpenSSL lets the server name callback do, whether the client names a server or not. So authorities
that were taken out of the file are gone as well; adding to a context, all that can be done with one that exists, would
keep them.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from bridge.app.marks import Mark, mark_of
from bridge.config import TlsSettings

logger = logging.getLogger(__name__)


class Encryption:
    """The newest certificates."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files.

        Raises:
            OSError: They cannot be read, or do not fit (`ssl.SSLError`).
        """
        self._settings = settings
        self._newest = context_of(settings)
        self._read = _state(settings)
        self._fault = ""
        #: What to listen with.
        self.context = context_of(settings)
        self.context.sni_callback = self._hand_over

    def change(self, settings: TlsSettings | None) -> None:
        """Take over other files, or the same ones anew; None changes nothing."""
        if settings is not None:
            self._settings = settings
            self._take()

    def look(self) -> None:
        """Take over files that have changed. Costs three looks at the file system."""
        if _state(self._settings) != self._read:
            self._take()

    def _take(self) -> None:
        state = _state(self._settings)
        try:
            self._newest = context_of(self._settings)
        except OSError as error:  # ssl's own errors are of this kind
            if (fault := str(error)) != self._fault:
                self._fault = fault
                logger.error(  # noqa: TRY400 - the reason says it all
                    "The changed certificate cannot be used, the old one stays: %s",
                    error,
                    extra={"event": "certificate_refused"},
                )
            return
        if state != self._read:
            logger.info("A changed certificate is in force.", extra={"event": "certificate_changed"})
        self._read, self._fault = state, ""

    def _hand_over(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """Return a server's context.

    Raises:
        OSError: The files cannot be read, or do not fit (`ssl.SSLError`).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.cert_file, settings.key_file, _no_password)
    if settings.client_ca_file:
        context.load_verify_locations(settings.client_ca_file)
        needs = settings.require_client_certificate
        context.verify_mode = ssl.CERT_REQUIRED if needs else ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    raise OSError("the private key is encrypted")


def _state(settings: TlsSettings) -> tuple[Mark, ...]:
    """Return what tells files from those that were there before."""
    return tuple(
        mark_of(Path(name))
        for name in (settings.cert_file, settings.key_file, settings.client_ca_file)
        if name
    )
