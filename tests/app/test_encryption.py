"""TLS: who is let in by a certificate, and certificates that change while Tocsin runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from bodies import alert, body
from certificates import make_certificate
from doors import JSON, URL, Box, Counted
from servers import require_server

from bridge.app.encryption import Encryption
from bridge.auth import CertificateRule, Grant, Keyring
from bridge.config import TlsSettings
from bridge.intake import Gate, Intake, Runner, routes

ACME = Grant(tenant="acme", role="sender", shape="certificate")


def issued(folder: Path, ca: tuple[Path, Path], name: str, san: str) -> tuple[Path, Path]:
    """Return a client's certificate, which `ca` signed, and its key."""
    openssl, certificate, key = require_server("openssl"), folder / f"{name}.pem", folder / f"{name}.key"
    request, names = folder / f"{name}.csr", folder / f"{name}.names"
    names.write_text(f"subjectAltName={san}\nextendedKeyUsage=clientAuth\n")
    for command in (
        [openssl, "req", "-new", "-nodes", "-subj", f"/O=Acme/CN={name}", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-out", str(request), "-keyout", str(key)],
        [openssl, "x509", "-req", "-in", str(request), "-CA", str(ca[0]), "-CAkey", str(ca[1]), "-days", "2",
         "-CAcreateserial", "-extfile", str(names), "-out", str(certificate)],
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Secured:
    """An intake behind TLS."""

    def __init__(self, folder: Path, port: int, encryption: Encryption, box: Box) -> None:
        self.folder, self.port, self.encryption, self.box = folder, port, encryption, box

    async def post(self, trust: Path, client: tuple[Path, Path] | None = None) -> int:
        context = ssl.create_default_context(cafile=str(trust))
        if client is not None:
            context.load_cert_chain(*client)
        async with (
            ClientSession() as session,
            session.post(
                f"https://127.0.0.1:{self.port}{URL}", data=body(alert()), headers=JSON, ssl=context
            ) as answer,
        ):
            return answer.status

    def shown(self) -> bytes:
        """Return the certificate that a client sees which names no server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Secured]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, needed: bool = False) -> Secured:
            make_certificate(tmp_path, "server")
            make_certificate(tmp_path, "clients")
            encryption = Encryption(
                TlsSettings(
                    cert_file=str(tmp_path / "server.pem"), key_file=str(tmp_path / "server.key"),
                    client_ca_file=str(tmp_path / "clients.pem"), require_client_certificate=needed,
                )
            )  # fmt: skip
            box, meter = Box(), Counted()
            rules = [
                CertificateRule(grant=ACME, san="am.example.com"),
                CertificateRule(
                    grant=Grant(tenant="other", role="sender"), san=None, subject=(("CN", "other"),)
                ),
            ]
            intake = Intake(box, Gate(Keyring(certificates=rules), wall=lambda: 0.0), meter=meter)
            app = web.Application()
            app.add_routes(routes(intake))
            runner = Runner(app, meter)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=encryption.context).start()
            return Secured(tmp_path, runner.addresses[0][1], encryption, box)

        yield make


def ca(secured: Secured) -> tuple[Path, Path]:
    return secured.folder / "clients.pem", secured.folder / "clients.key"


def server(secured: Secured) -> Path:
    return secured.folder / "server.pem"


async def test_a_client_certificate_names_the_tenant(secured):
    door = await secured()
    am = issued(door.folder, ca(door), "am", "DNS:am.example.com")
    other = issued(door.folder, ca(door), "other", "DNS:x.example.com")
    nobody = issued(door.folder, ca(door), "nobody", "DNS:nobody.example.com")
    assert await door.post(server(door), am) == 200
    assert await door.post(server(door), other) == 200
    assert await door.post(server(door), nobody) == 401
    assert await door.post(server(door)) == 401
    assert [row[0] for row in door.box.rows] == ["acme", "other"]


async def test_a_certificate_of_another_authority_gets_no_connection(secured):
    door = await secured()
    stranger = make_certificate(door.folder, "stranger", "DNS:am.example.com")
    with pytest.raises(OSError, match=r"(?i)ssl|alert|closed|reset|disconnect"):
        await door.post(server(door), stranger)
    assert door.box.rows == []


async def test_without_a_certificate_there_is_no_connection_where_one_is_required(secured):
    door = await secured(needed=True)
    with pytest.raises(OSError, match=r"(?i)ssl|alert|closed|reset|disconnect"):
        await door.post(server(door))
    am = issued(door.folder, ca(door), "am", "DNS:am.example.com")
    assert await door.post(server(door), am) == 200


def touch(path: Path) -> None:
    """Make a file look as if it was written at another time, however coarse the file system's clock is."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000_000))


async def test_a_new_certificate_is_in_force_without_a_restart(secured):
    door = await secured()
    before = await asyncio.to_thread(door.shown)
    door.encryption.look()
    make_certificate(door.folder, "server")
    touch(server(door))
    door.encryption.look()
    after = await asyncio.to_thread(door.shown)
    assert before != after
    am = issued(door.folder, ca(door), "am", "DNS:am.example.com")
    assert await door.post(server(door), am) == 200


async def test_an_authority_that_was_taken_away_is_gone(secured):
    door = await secured()
    am = issued(door.folder, ca(door), "am", "DNS:am.example.com")
    assert await door.post(server(door), am) == 200
    make_certificate(door.folder, "clients")
    touch(door.folder / "clients.pem")
    door.encryption.look()
    with pytest.raises(OSError, match=r"(?i)ssl|alert|closed|reset|disconnect"):
        await door.post(server(door), am)
    new = issued(door.folder, ca(door), "new", "DNS:am.example.com")
    assert await door.post(server(door), new) == 200


async def test_files_that_do_not_fit_change_nothing_and_are_said_once(secured, caplog):
    door = await secured()
    kept = door.folder / "kept.pem"
    shutil.copy(server(door), kept)
    make_certificate(door.folder, "another")
    shutil.copy(door.folder / "another.key", door.folder / "server.key")
    touch(door.folder / "server.key")
    for _ in range(3):
        door.encryption.look()
    am = issued(door.folder, ca(door), "am", "DNS:am.example.com")
    assert await door.post(kept, am) == 200
    assert [record.event for record in caplog.records if record.levelname == "ERROR"] == [
        "certificate_refused"
    ]
