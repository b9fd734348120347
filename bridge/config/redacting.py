"""What a configuration may say of sensitive data: what is taken out, for all, for a tenant, for a destination.

Rules: those of `models`. A tenant's rules stand beside those for all, its detectors in place of theirs. A destination
can only be told less than was kept: what was taken out at the door is nowhere any more.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from bridge.config.values import Section, expression, hash_key, hash_key_file
from bridge.redaction import KINDS, Redact, Rule, RuleAction, Treatment

HashKey = Annotated[SecretStr, AfterValidator(hash_key)]


class RedactRule(Section):
    """What becomes of labels or annotations by their name."""

    name: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Exact name, but that `*` stands for any characters and `?` for one; or regex.",
    )
    regex: Annotated[str, Field(min_length=1), AfterValidator(expression)] | None = Field(
        default=None, description="Expression (RE2) that the whole name must match."
    )
    action: RuleAction = Field(
        description="drop, mask (`<masked>`), hash (the same for the same value) or keep (no detector looks at it)."
    )

    @model_validator(mode="after")
    def _one_way_to_name(self) -> Self:
        if (self.name is None) is (self.regex is None):
            raise ValueError("give exactly one of name and regex")
        return self

    @property
    def rule(self) -> Rule:
        """The rule as it is obeyed."""
        return Rule(name=self.name or "", regex=self.regex or "", action=self.action)


class _Rules(Section):
    labels: list[RedactRule] = Field(
        default=[], description="What becomes of labels by their name; of several rules the strongest acts."
    )
    annotations: list[RedactRule] = Field(default=[], description="The same for annotations.")


class RedactMore(_Rules):
    """What is taken out for one tenant, or one destination."""

    secrets: Treatment | None = Field(
        default=None, description="Another treatment of secrets; null for no other."
    )
    email: Treatment | None = Field(default=None, description="The same for e-mail addresses.")
    ip: Treatment | None = Field(default=None, description="The same for IP addresses.")
    card: Treatment | None = Field(default=None, description="The same for card numbers.")
    phone: Treatment | None = Field(default=None, description="The same for phone numbers.")

    def on(self, usual: Redact) -> Redact:
        """Return what is taken out where `usual` is so otherwise."""
        others = {kind: given for kind in KINDS if (given := getattr(self, kind)) is not None}
        return Redact(
            labels=(*usual.labels, *(each.rule for each in self.labels)),
            annotations=(*usual.annotations, *(each.rule for each in self.annotations)),
            **({kind: usual.of(kind) for kind in KINDS} | others),
        )


class Redaction(_Rules):
    """What is taken out of alerts before anything is kept of them."""

    secrets: Treatment = Field(
        default="mask",
        description="Tokens, passwords, private keys, told by their form and by names: keep, mask or hash.",
    )
    email: Treatment = Field(default="keep", description="E-mail addresses: keep, mask or hash.")
    ip: Treatment = Field(default="keep", description="IPv4 and IPv6 addresses: keep, mask or hash.")
    card: Treatment = Field(
        default="keep", description="Card numbers with a good check digit: keep, mask or hash."
    )
    phone: Treatment = Field(default="keep", description="Phone numbers with a plus: keep, mask or hash.")
    key: HashKey | None = Field(
        default=None,
        description="Key of the hashes, 32 characters or more; or key_file, the path of a file with it. null for one "
        "that is made beside the stores (redact.key).",
    )
    key_file: Annotated[SecretStr, hash_key_file, AfterValidator(hash_key)] | None = Field(
        default=None, description="File that holds the key of the hashes, instead of `key`."
    )

    @model_validator(mode="after")
    def _one_of_the_twins(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("give only one of key and key_file")
        return self

    @property
    def given_key(self) -> SecretStr | None:
        """The key, wherever it was given."""
        return self.key or self.key_file

    @property
    def terms(self) -> Redact:
        """What is taken out, without the key."""
        return Redact(
            labels=tuple(each.rule for each in self.labels),
            annotations=tuple(each.rule for each in self.annotations),
            secrets=self.secrets,
            email=self.email,
            ip=self.ip,
            card=self.card,
            phone=self.phone,
        )
