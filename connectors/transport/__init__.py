"""The only sockets and files of the destinations: one sender per protocol, each a `ports.Sender`.

Rule: a sender decides nothing. What a far end does comes back as a value (`Unreached` for no answer).
`timeout_s` bounds one try; a connection that could not be made is tried again, at most 3 times within 5 s.
Everything longer belongs to the dispatcher.
"""

from __future__ import annotations
