"""The thinking rooms: pure, deterministic, `now` is an argument. Each imports only what lies below it.

Rule: no iteration order may come from a set or from a hash seed; ties are broken by identity.
"""

from __future__ import annotations
