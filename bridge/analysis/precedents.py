"""Precedents: what recommendations rest on, out of incidents that are over and alerts that fire.

Rules: pure. Only what was written by a person, linked by a rule or ordered in an incident's causal graph counts. An
alert's kind is its name; what it is about is its service, or else the most specific thing that it names.

What is kept of an incident that is over (`Precedent`) has no words of people in it: they may still come, and stand
where everything stands that people said.

Decision: the order of alerts out of the causal graphs of past incidents rather than out of the newest fit: a graph has
the names that people know, and says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from bridge.analysis.entities import subject_of, tokens_of
from bridge.analysis.feedback import Action, ActionState, FeedbackKind
from bridge.analysis.recommending import Note, Order, Past, Sign
from bridge.model import Episode, Incident, Word

#: What a person does with words that may say what helped.
_TELLING = frozenset({FeedbackKind.NOTE, FeedbackKind.CLOSE})


#: Alerts of a past incident, and alerts that fire, that are looked at; past incidents that are kept.
MAX_EPISODES, MAX_SIGNS, MAX_PASTS = 100, 2_000, 200


class Precedent(Word, frozen=True, kw_only=True):
    """What is kept of an incident that is over."""

    past: Past  # without what people wrote
    orders: tuple[Order, ...]


def sign_of(episode: Episode) -> Sign:
    """Return what an alert says that fires."""
    return Sign(kind=episode.name, entity=_about(episode), runbook=_runbook(episode))


def precedent_of(incident: Incident, episodes: Iterable[Episode]) -> Precedent | None:
    """Return what is kept of an incident that is over; None while it is not."""
    past = past_of(incident, episodes, ())
    return None if past is None else Precedent(past=past, orders=orders_of([incident]))


def recalled(
    precedents: Iterable[Precedent], actions: Iterable[Action]
) -> tuple[list[Past], tuple[Order, ...]]:
    """Return past incidents with what people say of them, and which kind of alert came before which other."""
    said: dict[str, list[Action]] = defaultdict(list)
    for action in actions:
        for incident in dict.fromkeys(action.incidents):
            said[incident].append(action)
    pasts: list[Past] = []
    orders: dict[tuple[str, str], Order] = {}
    for each in sorted(precedents, key=lambda each: (each.past.opened_at, each.past.incident)):
        pasts.append(_with_words(each.past, said[each.past.incident]))
        orders.update({(order.earlier, order.later): order for order in each.orders})
    return pasts, tuple(order for _, order in sorted(orders.items()))


def _with_words(past: Past, actions: Iterable[Action]) -> Past:
    applied = [each for each in actions if each.state is ActionState.APPLIED]
    is_false = any(each.kind is FeedbackKind.FALSE_ALARM for each in applied)
    return replace(past, notes=_notes(applied), false_alarm=past.false_alarm or is_false)


def past_of(incident: Incident, episodes: Iterable[Episode], actions: Iterable[Action]) -> Past | None:
    """Return an incident that is over with what people wrote in it; None while it is not."""
    if incident.closed_at is None:
        return None
    held = list(episodes)
    return Past(
        incident=incident.id, opened_at=incident.opened_at, closed_at=incident.closed_at,
        kinds=frozenset(each.name for each in held), entities=frozenset(filter(None, map(_about, held))),
        notes=_notes(actions),
        runbooks=frozenset(filter(None, map(_runbook, held))), false_alarm=incident.verdict == "false_alarm",
    )  # fmt: skip


def _notes(actions: Iterable[Action]) -> tuple[Note, ...]:
    return tuple(sorted(
        Note(each.at, each.text)
        for each in actions
        if each.kind in _TELLING and each.state is ActionState.APPLIED and each.text
    ))  # fmt: skip


def orders_of(incidents: Iterable[Incident]) -> tuple[Order, ...]:
    """Return which kind of alert came before which other, as the newest incident says that has both."""
    found: dict[tuple[str, str], Order] = {}
    for incident in sorted(incidents, key=lambda each: (each.opened_at, each.id)):
        nodes = incident.graph.nodes
        for edge in incident.graph.edges:
            earlier, later = nodes[edge.earlier].name, nodes[edge.later].name
            if earlier != later:
                found[earlier, later] = Order(earlier, later, edge.word, edge.why)
    return tuple(order for _, order in sorted(found.items()))


def _about(episode: Episode) -> str:
    services = [token.value for token in tokens_of(episode.labels) if token.kind == "service"]
    subject = subject_of(episode.labels)
    return services[0] if services else "" if subject is None else subject.value


def _runbook(episode: Episode) -> str:
    told: tuple[Mapping[str, str], ...] = (episode.annotations, episode.labels)
    return next((each["runbook_url"] for each in told if each.get("runbook_url")), "")
