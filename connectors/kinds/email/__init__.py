"""Kind `email`: one mail for what a person should notice of an incident, all of an incident in one thread.

Each mail has the `Message-ID` `<incident.sequence@domain>`, so a repeat is the same mail, and refers to the first one,
under whose subject all go: that is what mail readers make a thread of. What changed stands in the first line, which
they show beside the subject. Mere updates are not sent, since a mail cannot be changed.

Rules: all texts come from senders. Whatever stands in a header is one line and encoded where it is not plain ASCII
(RFC 2047), and nothing of an event is in the envelope: no text can add a header, a recipient or a part. In HTML
everything is escaped, and nothing is loaded from elsewhere.

Theory of refusals. A server answers for each recipient. Those it took have the mail; the others get it in a further
step, by themselves, so that nobody gets it twice: what is refused for now (4xx) is tried again, who is refused for good
(5xx) becomes a dead letter that says who. Where nobody at all is taken, it is the settings, and the destination blocks.

`connector` has the settings, the mail's envelope and what the answers mean; `message` writes the mail; `parts` has
the two texts in it.
Sources: RFC 5321 (4.2 codes), 5322 (3.6.4 threads), 2047, 2046 (multipart/alternative), 3834 (Auto-Submitted).
"""

from __future__ import annotations

from connectors.kinds.email.connector import Email, EmailSettings

__all__ = ["Email", "EmailSettings"]
