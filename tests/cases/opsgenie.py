from __future__ import annotations

from expected import Expected
from hypothesis import strategies as st

EXPECTED = Expected(
    secrets=("00000000-aaaa-4bbb-8ccc-0123456789ab",),
    memories=(({"open": "2"}, ""), ({"open": "2"}, "1")),
    answers={"requestId": st.text(max_size=5)},
)
