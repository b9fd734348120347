"""The page of metrics, made anew for whoever asks, as long as that leaves time for anything else.

Decision: a budget of time, not a fixed age. Prometheus asks every few seconds and always gets what is true now;
somebody without a credential who asks as fast as can be gets what was true a moment ago, and takes a fifth of the loop.
"""

from __future__ import annotations

from collections.abc import Callable

#: The share of the time that may go into making the page, and how much of it is saved up.
SHARE = 0.2
SAVED_S = 2.0


class Exposition:
    """The page."""

    def __init__(self, render: Callable[[], bytes], *, clock: Callable[[], float]) -> None:
        """Take how it is made (some milliseconds), and seconds of a steady clock."""
        self._render = render
        self._clock = clock
        self._left_s = SAVED_S
        self._asked_at_s = clock()
        self._page = b""

    def page(self) -> bytes:
        """Return the page, from now or, where too much time went into it of late, the last one."""
        now_s = self._clock()
        self._left_s = min(SAVED_S, self._left_s + SHARE * (now_s - self._asked_at_s))
        self._asked_at_s = now_s
        if self._left_s > 0 or not self._page:
            self._page = self._render()
            self._left_s -= self._clock() - now_s
        return self._page
