"""What links are learned from, and what was learned, as it is stored."""

from __future__ import annotations

from datetime import datetime

from bridge.analysis.trees import Grown
from bridge.model import Word

Key = tuple[str, str, datetime]  # source, fingerprint, starts_at


class Sighting(Word, frozen=True, array_like=True):
    """One episode as learning remembers it."""

    at_s: float  # when it began, epoch s
    source: str
    fingerprint: str
    starts_at: datetime
    template: str
    labels: dict[str, str]

    @property
    def key(self) -> Key:
        """The identity of the episode."""
        return (self.source, self.fingerprint, self.starts_at)


class Taught(Word, frozen=True, kw_only=True):
    """What one correction says: episodes of one group belong together, those of different groups do not."""

    incident: str  # that it was said of
    groups: tuple[tuple[Key, ...], ...]


class Table(Word, frozen=True, kw_only=True):
    """How often families come together. Binary fields are little-endian; base-two logarithms are float16."""

    families: tuple[str, ...] = ()
    cells: bytes = b""  # uint32 each: (earlier * families + later) * 2 + related, ascending
    lifts: bytes = b""  # 2 + LAGS per cell: lift, pairs seen, lift at each lag
    company: bytes = b""  # 2 per family: lift with any other, unrelated and related
    profile: bytes = b""  # LAGS each, unrelated and related: what is usual at each lag


class Linker(Word, frozen=True, kw_only=True):
    """What a fit learned, as it is stored."""

    table: Table
    common: dict[str, float]  # how rare a key is, 0..1, of those that are not as rare as anything
    unlabelled: Grown
    corrected: Grown | None = None  # None: too few labels
    pairs: int = 0  # near pairs it was learned from
    labelled: int = 0  # labelled ones
