from __future__ import annotations

from cases.postgres import parse
from expected import Expected

from bridge.ports import Appended

EXPECTED = Expected(
    parse=parse,
    url="",
    corrected={"path": "./right"},
    probed=Appended(),
    has_max_bytes=False,
    has_ca_file=False,
)
