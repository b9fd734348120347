from __future__ import annotations

from expected import Expected

EXPECTED = Expected(secrets=("0123456789abcdef0123456789abcdef",))
