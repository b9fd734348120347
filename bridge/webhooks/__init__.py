"""Pure parsing of what other people's software sends: bytes in, a `Notification` or a `PayloadError` out.

Rules: no I/O and no clock. `envelope` asks only what has to be known before the answer (is it a webhook,
how many alerts); what is wrong inside one alert is found here too, but later, by the analyst, and costs
that alert alone.
"""

from __future__ import annotations
