"""YAML to frozen `Settings`: the only room that reads a configuration.

Rules: unknown key = error; all faults at once, each with file, line, path and what to write instead; a secret
is never repeated in a fault. Nothing below `app` sees this room: `app` hands the parts on. Destination kinds
are handed in, so that this room knows no connector.

`document` reads YAML with places, `values` reads what is written in one place, `models`, `credentials` and `quotas`
say what may be written, `parts` validates piece by piece, `doors` puts together who gets in, `topology` reads the
topology file, `faults` finds the words, `loading` puts it all together, `settings` is what comes out.
"""

from __future__ import annotations

from bridge.config.loading import default, is_loopback, load, schema
from bridge.config.settings import (
    NOTHING_MORE,
    Certificate,
    Credential,
    Credentials,
    DeliverySettings,
    DestinationKind,
    DestinationSettings,
    DoorQuotas,
    Issued,
    Jwt,
    Login,
    Password,
    PollSettings,
    SeriesSettings,
    Settings,
    Signature,
    TlsSettings,
    Token,
)
from bridge.config.topology import load_topology

__all__ = [
    "NOTHING_MORE",
    "Certificate",
    "Credential",
    "Credentials",
    "DeliverySettings",
    "DestinationKind",
    "DestinationSettings",
    "DoorQuotas",
    "Issued",
    "Jwt",
    "Login",
    "Password",
    "PollSettings",
    "SeriesSettings",
    "Settings",
    "Signature",
    "TlsSettings",
    "Token",
    "default",
    "is_loopback",
    "load",
    "load_topology",
    "schema",
]
