"""Forms of an event that several kinds speak, one module each: what others defined, as they defined it.

Rule: pure; a format knows the words, `common` and `wording`, and no kind. A format says which version of its standard
it follows and where that is written.
"""

from __future__ import annotations
