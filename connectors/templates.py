"""Title and text of a destination in words of one's own: a template is text with `{fields}`, and nothing else.

Rules: pure; a template is looked through once, when the configuration is read, and an unknown field is refused there
with those that exist. Nothing in it is executed, looked up or formatted: no attributes, no indices, no conversions, no
widths. What the fields hold comes from senders and is put in as it is, once; a brace in it means nothing.

Decision: the filled template takes the place of the incident's title or summary in the event, before the kind sees it
(`wording.worded`). So every kind escapes and cuts it as it does with the incident's own words, whatever format it
writes, and a kind that was never told of templates cannot forget to. Literal text is escaped with the rest: a template
says what is told, not how it is marked up.
Rejected: Jinja in a sandbox (a history of ways out of it, for loops nobody needs in a title), and `str.format`, whose
`{x.__class__}` reads what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

#: What can stand in braces, and what it is; `wording` knows how each is told.
FIELDS: dict[str, str] = {
    "alert": "name of the worst alert",
    "alerts": "how many different alerts it has",
    "anomaly": "0.00 to 1.00, or unknown",
    "author": "who said `note`",
    "change": "what the event is: opened, updated, escalated, closed, ...",
    "closed_at": "RFC 3339, empty while it is not closed",
    "cluster": "label of all alerts, else of the worst",
    "firing": "how many of the alerts fire",
    "host": "the machine it is about, without a port",
    "id": "of the incident",
    "lasted": "how long it has been open, such as 25 min",
    "namespace": "label of all alerts, else of the worst",
    "note": "what a person said that the event is about",
    "opened_at": "RFC 3339",
    "origin": "what opened it",
    "place": "the most precise place that the labels name",
    "runbook": "link to what to do, empty where there is none",
    "service": "label of all alerts, else of the worst",
    "severity": "critical, warning or info",
    "source": "link to the expression of the worst alert",
    "state": "open, quiet, closed, ...",
    "summary": "the incident's own",
    "suspect": "what probably came first, and why",
    "tenant": "whose it is",
    "title": "the incident's own",
    "together": "why it is one incident",
    "url": "of the incident in Tocsin",
}
#: `{label:team}`: a label that all alerts share, else the worst alert's; empty where there is none.
LABEL = "label:"
LONGEST = 2000  # characters of a template
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


class Part(NamedTuple):
    """A piece of a template: the name of a field, or text that stands as it is."""

    text: str
    is_field: bool


@lru_cache(maxsize=256)
def parts(template: str) -> tuple[Part, ...]:
    """Return the pieces of a template, in order.

    Raises:
        ValueError: A field does not exist, or a brace stands alone; the message says what to write.
    """
    return tuple(_parts(template))


def _parts(template: str) -> Iterator[Part]:
    for found in _PART.finditer(template):
        piece, name = found[0], found[1]
        if piece in {"{{", "}}"}:
            yield Part(piece[0], is_field=False)
        elif name is not None:
            yield Part(_known(name), is_field=True)
        elif piece in {"{", "}"}:
            raise ValueError("a brace that is meant as one is doubled: {{ or }}")
        else:
            yield Part(piece, is_field=False)


def _known(name: str) -> str:
    if name in FIELDS or (name.startswith(LABEL) and _LABEL_NAME.fullmatch(name.removeprefix(LABEL))):
        return name
    raise ValueError(
        f"there is no field {{{name[:100]}}}; there are: {', '.join(f'{{{each}}}' for each in FIELDS)}, and "
        "{label:NAME} for any label"
    )


def _checked(template: str) -> str:
    if not template.strip():
        raise ValueError("a template is not empty; leave the key out for the incident's own words")
    parts(template)
    return template


#: A setting that is a template.
Template = Annotated[str, Field(max_length=LONGEST), AfterValidator(_checked)]
