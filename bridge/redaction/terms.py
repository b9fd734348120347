"""What is to be taken out of what people and machines write: the words of a configuration's `redact`.

Rules: no secret is in them, so that they can be an inbox row: the key of hashes is no part of them (`redactor`). Of
several rules that fit one name the strongest acts, whatever their order: drop, mask, hash, keep.
"""

from __future__ import annotations

from typing import Literal

from bridge.model import Word

#: What becomes of a text that a detector finds: nothing, a placeholder, or a placeholder that tells equal from unequal.
Treatment = Literal["keep", "mask", "hash"]
#: What becomes of a label or an annotation by its name. `keep`: no detector looks at its value.
RuleAction = Literal["drop", "mask", "hash", "keep"]
#: The strongest first.
STRENGTH: tuple[RuleAction, ...] = ("drop", "mask", "hash", "keep")
#: What is found by its form, in the order in which it is looked for.
Kind = Literal["secrets", "email", "card", "ip", "phone"]
KINDS: tuple[Kind, ...] = ("secrets", "email", "card", "ip", "phone")


class Rule(Word, frozen=True, kw_only=True):
    """What becomes of labels, or annotations, of certain names: one of `name` and `regex` is given."""

    name: str = ""  # exact, but that `*` stands for any characters and `?` for one
    regex: str = ""  # RE2, of the whole name
    action: RuleAction


class Redact(Word, frozen=True, kw_only=True):
    """What is taken out, and how."""

    labels: tuple[Rule, ...] = ()
    annotations: tuple[Rule, ...] = ()
    secrets: Treatment = "mask"
    email: Treatment = "keep"
    ip: Treatment = "keep"
    card: Treatment = "keep"
    phone: Treatment = "keep"

    @property
    def hashes(self) -> bool:
        """Whether anything that is taken out leaves a hash."""
        return any(self.of(kind) == "hash" for kind in KINDS) or any(
            rule.action == "hash" for rule in (*self.labels, *self.annotations)
        )

    def of(self, kind: Kind) -> Treatment:
        """Return what becomes of what one detector finds."""
        return {
            "secrets": self.secrets, "email": self.email, "card": self.card, "ip": self.ip, "phone": self.phone,
        }[kind]  # fmt: skip
