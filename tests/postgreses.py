"""A PostgreSQL of the tests' own: in a folder of its own, on a socket in it and on a port of loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import free_port, require_server

#: Where Debian puts what only its own scripts call, newest version first.
FOLDERS = sorted(
    (each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    key=lambda each: int(each.parent.name),
    reverse=True,
)
NOBODY = 65_534
START_S = 30.0
PASSWORD = "of-tocsin"


@dataclass
class Database:
    """A server that runs, and how it is reached."""

    folder: Path
    port: int
    programs: Path
    who: dict[str, Any]
    server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        return f"{self.folder}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder, "fsync": "off",
            "shared_buffers": "16MB", "max_connections": 20, "autovacuum": "off",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.server = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log, stderr=log, cwd=self.folder, **self.who,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while self.psql("select 1", check=False) != "1":
            if self.server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.05)

    def stop(self, *, how: int = signal.SIGINT) -> None:
        """End it at once: as an operator does (SIGINT), or without a farewell (SIGQUIT)."""
        if self.server is not None:
            self.server.send_signal(how)
            self.server.wait(START_S)
            self.server = None

    def give(self, file: Path, name: str) -> None:
        """Put a file into the data folder, as the server's own."""
        path = self.folder / "data" / name
        shutil.copy(file, path)
        path.chmod(0o600)
        if self.who:
            os.chown(path, NOBODY, NOBODY)

    def psql(self, text: str, *, database: str = "postgres", check: bool = True) -> str:
        """Return what a superuser gets for `text`: a line a row, columns apart by |."""
        done = subprocess.run(
            [self.programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-p", str(self.port),
             "-U", "boss", "-d", database, "-c", text],
            capture_output=True, text=True, timeout=START_S, check=False, env={"PATH": os.environ["PATH"], "TZ": "UTC"},
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()


@contextmanager
def postgres() -> Iterator[Database]:
    """Give a server with a role `tocsin` that has a password and a database `reports` of its own.

    PostgreSQL does not run as root: then it runs as nobody, in a folder that is nobody's.
    """
    programs = FOLDERS[0] if FOLDERS else Path(require_server("postgres")).parent
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-", dir="/tmp"))  # a socket's path has 107 characters
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    made = Database(folder, free_port(), programs, who)
    try:
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-U", "boss", "--auth-local=trust", "--auth-host=scram-sha-256",
             "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True, capture_output=True, timeout=START_S, cwd=folder, **who,
        )  # fmt: skip
        made.start()
        made.psql(f"create role tocsin login password '{PASSWORD}'")
        made.psql("create database reports owner tocsin")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
