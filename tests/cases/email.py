from __future__ import annotations

from email import message_from_bytes, policy

from expected import Expected, payload

from bridge.ports import MailResponse, Request


def readable(request: Request) -> bytes:
    """Return both texts of a mail."""
    parts = message_from_bytes(payload(request), policy=policy.SMTP).walk()
    return b"\n".join(part.get_payload(decode=True) for part in parts if not part.is_multipart())


def parse(_case: str, sent: bytes) -> None:
    text = sent.decode()
    assert not set(text) & {"\x85", "\u2028"}
    assert "\x1b" not in text
    assert "\x00" not in text


EXPECTED = Expected(
    variants={
        "email_relay": {
            "name": "relay", "kind": "email", "server": "127.0.0.1:25", "security": "plain",
            "sender": "tocsin@example.com", "to": ["oncall@example.com"],
        }
    },
    secrets=("mail-password-example",),
    parse=parse,
    readable=readable,
    url="",
    corrected={"server": "right.example.com:587"},
    probed=MailResponse(code=250, text="", to="hello"),
    memories=(
        ({"root": "<inc-1.1@example.com>", "subject": "[critical] checkout"}, ""),
        (None, "oncall@example.com"),
    ),
)  # fmt: skip
