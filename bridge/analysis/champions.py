"""Champions: which detector speaks for a series, since when, and what is known of it. Words alone.

Rules: no numpy here, since what is stored of a series is read by those that show it. How a champion is chosen is
`analysis.selection`.

What people said is of the model that spoke: whoever takes its place begins without.
"""

from __future__ import annotations

from msgspec.structs import replace

from bridge.model import Word

#: What feedback can take off a worth at most, and how many words are assumed to have been good ones.
WORST_WORD, PRIOR_WORDS = 0.3, 4.0


class Standing(Word, frozen=True, kw_only=True):
    """Who speaks for a series, and what is known of that."""

    model: str
    reason: str
    since_tick: int
    is_won: bool = False  # in trials; else it is what the class begins with
    challenger: str = ""
    wins: int = 0  # of the challenger, in a row
    trials: int = 0
    useful: int = 0  # what people said of this model's alarms on this series
    false_alarms: int = 0


def word_against(standing: Standing) -> float:
    """Return what people's words take off the worth of the champion, 0..`WORST_WORD`."""
    said = standing.useful + standing.false_alarms + PRIOR_WORDS
    return WORST_WORD * standing.false_alarms / said


def heard(standing: Standing, *, useful: bool, words: int = 1) -> Standing:
    """Return the standing after a person called an alarm of the champion useful, or false; -1 takes it back."""
    if useful:
        return replace(standing, useful=max(0, standing.useful + words))
    return replace(standing, false_alarms=max(0, standing.false_alarms + words))


def with_words_of(standing: Standing, now: Standing) -> Standing:
    """Return a standing with what people said meanwhile, if it is of the same model."""
    if standing.model != now.model:
        return standing
    return replace(standing, useful=now.useful, false_alarms=now.false_alarms)
