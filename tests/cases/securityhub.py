from __future__ import annotations

import json
import re

from expected import Expected
from hypothesis import strategies as st


def parse(_case: str, sent: bytes) -> None:
    for finding in json.loads(sent)["Findings"]:
        assert len(finding["Title"]) <= 256
        assert len(finding["Description"]) <= 1024
        assert 1 <= len(finding["Resources"]) <= 32
        assert len(finding["ProductFields"]) <= 50
        assert all(0 < len(value) <= 1024 for value in finding["ProductFields"].values())


TEXT = st.text(max_size=3) | st.integers() | st.none()

EXPECTED = Expected(
    parse=parse,
    count=re.compile(rb'"tocsin/alerts_total":"100"'),
    url="endpoint",
    corrected={"endpoint": "https://right.example.com"},
    answers={
        "SuccessCount": st.integers(-1, 5) | TEXT,
        "FailedFindings": st.lists(
            st.fixed_dictionaries({}, optional={"Id": TEXT, "ErrorCode": TEXT, "ErrorMessage": TEXT}) | st.none()
        )
        | TEXT,
    },
)  # fmt: skip
