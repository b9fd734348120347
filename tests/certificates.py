"""Certificates for the tests, made on the spot with the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from servers import require_server


def make_certificate(directory: Path, name: str = "server", host: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """Return paths of a self-signed certificate for `host` and of its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *(require_server("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=tocsin test"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", f"subjectAltName={host}", "-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
