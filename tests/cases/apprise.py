from __future__ import annotations

from expected import Expected

from bridge.ports import NoticeResponse


def parse(_case: str, sent: bytes) -> None:
    assert all(each.isprintable() or each == "\n" for each in sent.decode())


EXPECTED = Expected(
    secrets=("user-key-example", "app-token-example"),
    parse=parse,
    url="",
    corrected={"url": "json://right.example.com/x"},
    probed=NoticeResponse(taken=True),
    has_ca_file=False,
)
