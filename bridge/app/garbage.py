"""How often Python looks for garbage in cycles: seldom, since what a process of Tocsin keeps has hardly any.

Decision: the collector is not switched off, because a library's cycles would stay for ever; it only comes less
often. At the default thresholds an analyst with thousands of open episodes looks at all of them again and again.
"""

from __future__ import annotations

import gc

#: New objects before the youngest are looked at, and how many such looks before the older and the oldest are.
THRESHOLDS = (50_000, 20, 20)


def collect_seldom() -> None:
    """Look less often from now on, and never again at what is there already."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
