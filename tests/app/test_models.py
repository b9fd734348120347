"""The models' process with a real child: rows come out, deaths cost time only, poison is named."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import encoders
import msgspec
import numpy as np
import pytest
from thinking import Thinking

from bridge.analysis import reviewing
from bridge.analysis.champions import Standing
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.families import FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.learning import Sighting
from bridge.analysis.reviewing import ReviewAsk, SeriesAsk
from bridge.app import models
from bridge.app.models import CHUNK, GaveUp, ModelRow, ModelsProcess, Result
from bridge.model import RowKind, Template

TESTS = Path(__file__).parents[1]
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
Start = Callable[..., ModelsProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a models' process; all are closed at the end."""
    started: list[ModelsProcess] = []

    def begin(load: Any = encoders.quick) -> ModelsProcess:
        started.append(ModelsProcess(load=load))
        return started[-1]

    yield begin
    for process in started:
        process.close()


def until(process: ModelsProcess, done: Callable[[list[Result]], bool]) -> list[Result]:
    """Poll until `done` of what came out so far; the test's time limit is the only other end."""
    results: list[Result] = []
    while not done(results):
        results += process.poll()
        time.sleep(0.005)  # as the analyst does between batches
    return results


def all_done(process: ModelsProcess) -> list[Result]:
    return until(process, lambda _: process.ready and process.waiting == 0)


def templates(*texts: str) -> list[Template]:
    return [Template(id=text.replace(" ", "-"), text=text) for text in texts]


def ask(fit: int, kinds: int = 20, each: int = 12, tenant: str = "t") -> FitAsk:
    texts = [f"kind{kind} text {number}" for kind in range(kinds) for number in range(each)]
    rows = tuple((text.replace(" ", "-"), encoders.vector_of(text), "") for text in texts)
    return FitAsk(tenant=tenant, fit=fit, templates=rows)


def rows(results: list[Result], kind: RowKind) -> list[dict[str, Any]]:
    return [json.loads(row.body) for row in results if isinstance(row, ModelRow) and row.kind is kind]


def encoded(results: list[Result]) -> dict[str, bytes]:
    bodies = rows(results, RowKind.VECTORS)
    return {key: base64.b64decode(text) for body in bodies for key, text in body["vectors"].items()}


def gave_up(results: list[Result]) -> list[GaveUp]:
    return [result for result in results if isinstance(result, GaveUp)]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")


# ---- reviews ---------------------------------------------------------------------------------------------


def detectors(tenant: str, fit: int, points: int = 440) -> ReviewAsk:
    """Return the ask for a review of one series of counts that are mostly zero."""
    values = np.random.default_rng(fit).poisson(0.1, points).astype(float)
    snapshot = ask_of(tenant, "s", fit, (1.7e9 + 300.0 * np.arange(points), values))
    standing = Standing(model="spot", reason="the usual one", since_tick=0)
    return ReviewAsk(
        tenant=tenant, fit=fit, series=(SeriesAsk(snapshot=snapshot, standing=standing, lived=points),)
    )


def test_detectors_are_reviewed_when_nothing_else_waits_and_the_newest_ask_of_a_tenant_counts(
    start: Start,
) -> None:
    process = start()
    for asked in (detectors("t", 1), detectors("t", 2), detectors("other", 1)):
        process.submit_review(asked)
    process.submit_encode("t", templates("text"))
    results = all_done(process)
    kinds = [result.kind for result in results if isinstance(result, ModelRow)]
    assert kinds == [RowKind.VECTORS, RowKind.REVIEWS, RowKind.REVIEWS]
    told = [reviewing.read(each.body.encode()) for each in results[1:] if isinstance(each, ModelRow)]
    assert told == [reviewing.answered(detectors("t", 2)), reviewing.answered(detectors("other", 1))]
    assert told[0].reviews[0].standing.model == "counts"


def test_a_review_that_cannot_be_made_is_given_up_on(start: Start) -> None:
    process = start()
    good = detectors("t", 5)
    torn = msgspec.structs.replace(good.series[0].snapshot, flagged=b"")
    process.submit_review(
        msgspec.structs.replace(good, series=(msgspec.structs.replace(good.series[0], snapshot=torn),))
    )
    (lost,) = gave_up(until(process, lambda found: bool(gave_up(found))))
    assert (lost.asked, lost.fit, lost.tenant) == ("review", 5, "t")


# ---- vectors ---------------------------------------------------------------------------------------------


def test_vectors_come_in_small_rows_in_the_order_asked(start: Start) -> None:
    process = start()
    asked = templates(*(f"text {number}" for number in range(2 * CHUNK + 3)))
    assert process.submit_encode("t", asked)
    results = all_done(process)
    bodies = rows(results, RowKind.VECTORS)
    assert [len(body["vectors"]) for body in bodies] == [CHUNK, CHUNK, 3]
    assert {body["model"] for body in bodies} == {"quick@1"}
    assert encoded(results) == {each.id: encoders.vector_of(each.text) for each in asked}
    assert [key for body in bodies for key in body["vectors"]] == [each.id for each in asked]


def test_single_asks_are_put_together(start: Start) -> None:
    process = start()
    for number in range(CHUNK + 1):
        process.submit_encode("t", templates(f"text {number}"))
    assert [len(body["vectors"]) for body in rows(all_done(process), RowKind.VECTORS)] == [CHUNK, 1]


def test_tenants_take_turns(start: Start) -> None:
    process = start()
    process.submit_encode("many", templates(*(f"text {number}" for number in range(5 * CHUNK))))
    process.submit_encode("few", templates("one"))
    tenants = [result.tenant for result in all_done(process)]
    assert tenants.index("few") == 1


def test_too_many_texts_of_one_tenant_are_refused(start: Start) -> None:
    process = start()
    flood = templates("x") * models.MAX_WAITING
    assert process.submit_encode("t", flood)
    assert not process.submit_encode("t", templates("one more"))
    assert process.submit_encode("other", templates("one more"))


def test_what_a_library_prints_does_not_reach_the_analysts_stdout() -> None:
    code = (
        "import encoders\n"
        "from bridge.app.models import ModelsProcess\n"
        "from bridge.model import Template\n"
        "if __name__ == '__main__':\n"
        "    process = ModelsProcess(load=encoders.quick)\n"
        "    process.submit_encode('t', [Template(id='a', text='loud')])\n"
        "    while process.waiting: process.poll()\n"
        "    process.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(), check=True, capture_output=True, text=True
    )
    assert ended.stdout == ""
    assert "a library prints" in ended.stderr


def test_a_child_that_is_killed_leaves_no_locks_for_python_to_warn_about() -> None:
    code = (
        "import encoders\n"
        "from bridge.app.models import ModelsProcess\n"
        "if __name__ == '__main__':\n"
        "    process = ModelsProcess(load=encoders.locking)\n"
        "    while not process.ready: process.poll()\n"
        "    process.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(), check=True, capture_output=True, text=True
    )
    assert ended.stderr == ""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


# ---- families --------------------------------------------------------------------------------------------


def test_a_fit_names_the_family_of_every_template_and_later_texts_are_placed_in_it(start: Start) -> None:
    process = start()
    process.submit_fit(ask(3))
    process.submit_encode("t", templates("kind7 text new", "like-nothing else"))
    results = all_done(process)
    fitted, predicted = rows(results, RowKind.FAMILIES)
    assert fitted["fit"] == predicted["fit"] == 3
    assert set(fitted["assign"]) == {key for key, _, _ in ask(3).templates}
    assert predicted["assign"] == {
        "kind7-text-new": fitted["assign"]["kind7-text-0"],
        "like-nothing-else": "t:like-nothing-else",
    }
    assert [result.kind for result in results if isinstance(result, ModelRow)][1:] == [
        RowKind.VECTORS,
        RowKind.FAMILIES,
    ]


def test_texts_encoded_after_the_snapshot_was_taken_are_placed_when_the_fit_is_done(start: Start) -> None:
    process = start()
    process.submit_encode("t", templates("kind7 text new", "kind7 text 0"))
    process.submit_fit(ask(1))
    fitted, placed = rows(all_done(process), RowKind.FAMILIES)
    assert placed == {"fit": 1, "assign": {"kind7-text-new": fitted["assign"]["kind7-text-0"]}}


def test_a_newer_fit_replaces_one_that_waits(start: Start) -> None:
    process = start()
    process.submit_fit(ask(1))
    process.submit_fit(ask(2))
    assert [body["fit"] for body in rows(all_done(process), RowKind.FAMILIES)] == [2]


def test_a_fit_that_died_with_the_child_is_made_again_before_it_predicts(start: Start) -> None:
    process = start()
    process.submit_fit(ask(1))
    (fitted,) = rows(all_done(process), RowKind.FAMILIES)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.submit_encode("t", templates("kind7 text new"))
    (predicted,) = rows(all_done(process), RowKind.FAMILIES)
    assert predicted == {"fit": 1, "assign": {"kind7-text-new": fitted["assign"]["kind7-text-0"]}}


# ---- deaths ----------------------------------------------------------------------------------------------


def test_a_killed_child_loses_nothing(start: Start) -> None:
    process = start()
    asked = templates(*(f"text {number}" for number in range(20 * CHUNK)))
    process.submit_encode("t", asked)
    results = until(process, lambda results: len(results) >= 2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    results += all_done(process)
    assert process.deaths == 1
    assert gave_up(results) == []
    assert encoded(results) == {each.id: encoders.vector_of(each.text) for each in asked}


def test_a_text_that_kills_the_child_twice_is_given_up_on_alone(start: Start) -> None:
    process = start()
    process.submit_encode("t", templates("good", "poison", "also good", "last"))
    results = all_done(process)
    (given_up,) = gave_up(results)
    assert (given_up.tenant, given_up.asked, given_up.templates) == ("t", "encode", ("poison",))
    assert "died 2 times" in given_up.reason
    assert set(encoded(results)) == {"good", "also-good", "last"}
    assert process.deaths == 2


def test_a_text_that_raises_is_given_up_on_alone_and_nobody_dies(start: Start) -> None:
    process = start()
    process.submit_encode("t", templates("good", "sour"))
    results = all_done(process)
    assert [(each.templates, each.reason) for each in gave_up(results)] == [
        (("sour",), "ValueError: cannot read 'sour'")
    ]
    assert set(encoded(results)) == {"good"}
    assert process.deaths == 0


def test_a_fit_that_cannot_be_made_is_given_up_on_by_its_number(start: Start) -> None:
    process = start()
    torn = tuple((key, b"\0", family) for key, _, family in ask(7).templates)
    process.submit_fit(FitAsk(tenant="t", fit=7, templates=torn))
    (given_up,) = gave_up(all_done(process))
    assert (given_up.tenant, given_up.asked, given_up.fit) == ("t", "fit", 7)


def test_a_child_that_never_answers_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start()
    all_done(process)
    monkeypatch.setitem(models.DEADLINES_S, "encode", 0.05)
    process.submit_encode("t", templates("endless"))
    (given_up,) = gave_up(all_done(process))
    assert given_up.templates == ("endless",)


@pytest.mark.parametrize(
    ("load", "reason"),
    [(encoders.missing, "the model is not installed\ninstall it"), (encoders.deadly, "died")],
    ids=["raises", "dies"],
)
def test_a_model_that_does_not_load_blames_no_text_and_is_tried_again_later(
    start: Start, load: Any, reason: str
) -> None:
    process = start(load)
    process.submit_encode("t", templates("good"))
    results = until(process, lambda results: len(results) >= 2)
    assert {(each.asked, each.templates) for each in gave_up(results)} == {("load", ())}
    assert reason in gave_up(results)[0].reason
    assert not process.ready
    assert process.waiting >= 1


def test_closing_ends_the_child_at_once_whatever_it_does(start: Start) -> None:
    process = start()
    all_done(process)
    process.submit_encode("t", templates("endless"))
    process.poll()
    pid = process.pid
    assert pid is not None
    process.close()
    assert gone(pid)


def test_a_child_whose_parent_was_killed_ends_itself() -> None:
    code = (
        "import encoders\n"
        "from bridge.app.models import ModelsProcess\n"
        "if __name__ == '__main__':\n"
        "    process = ModelsProcess(load=encoders.quick)\n"
        "    while not process.ready: process.poll()\n"
        "    print(process.pid, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    while not gone(child):
        time.sleep(0.01)


def test_the_child_is_nice(start: Start) -> None:
    process = start()
    all_done(process)
    assert process.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10


# ---- the real model --------------------------------------------------------------------------------------


@pytest.mark.timeout(240)  # a niced child loads torch, on a machine that may be busy
def test_the_packaged_model_answers_through_the_child(start: Start) -> None:
    process = start(partial(models.encoder.load, ""))
    process.submit_encode("t", templates("Instance <label> down"))
    (body,) = rows(all_done(process), RowKind.VECTORS)
    assert body["model"].startswith("all-MiniLM-L6-v2@")
    assert len(base64.b64decode(body["vectors"]["Instance-<label>-down"])) == 768


# ---- linkers ---------------------------------------------------------------------------------------------


def link_ask(fit: int, tenant: str = "t") -> LinkAsk:
    """Ask about sixty faults of three kinds each, and lone alerts between them."""
    kinds = [(minute * 20, f"Slow{kind}", "shop") for minute in range(60) for kind in range(3)]
    kinds += [(minute * 20 + 9, "Cert", f"mail-{minute % 7}") for minute in range(60)]
    seen = [
        (BEGIN + timedelta(minutes=minute, seconds=len(name)), name, service)
        for minute, name, service in kinds
    ]
    sightings = tuple(
        Sighting(
            at.timestamp(),
            "am",
            f"{name} {service} {number}",
            at,
            name,
            {"alertname": name, "service": service},
        )
        for number, (at, name, service) in enumerate(seen)
    )
    return LinkAsk(
        tenant=tenant, fit=fit, sightings=sightings, families={}, vectors={}, charts=(), label="service", taught=(),
        sensitivity=0.5, window_s=900.0,
    )  # fmt: skip


def test_a_linker_comes_as_a_row_that_the_pipeline_takes_and_is_the_same_each_time(start: Start) -> None:
    process = start()
    process.submit_link(link_ask(3))
    process.submit_link(link_ask(4))  # takes the place of one that has not begun
    results = all_done(process)
    process.submit_link(link_ask(4))
    results += all_done(process)
    one, other = (row for row in results if isinstance(row, ModelRow) and row.kind is RowKind.LINKER)
    assert one == other
    thinking = Thinking()
    outcome = thinking.row("0s", RowKind.LINKER, one.body.encode())
    assert outcome.quarantined == []
    fit = thinking.tenant.link_fit
    assert fit is not None
    assert fit.fit == 4
    assert fit.linker.pairs > 0
    assert fit.verdict.reason


def test_a_linker_that_cannot_be_learned_is_given_up_and_the_next_one_comes(start: Start) -> None:
    process = start()
    broken = msgspec.structs.replace(link_ask(1), vectors={"Slow0": b"x", "Slow1": b"x"})
    process.submit_link(broken)
    results = all_done(process)
    assert [(each.asked, each.fit) for each in gave_up(results)] == [("link", 1)]
    process.submit_link(link_ask(2))
    assert len([row for row in all_done(process) if isinstance(row, ModelRow)]) == 1


def test_what_needs_no_encoder_waits_for_none(start: Start) -> None:
    process = start(encoders.missing)
    process.submit_link(link_ask(1))
    process.submit_fit(ask(2))
    results = until(process, lambda results: len(results) >= 3)
    kinds = [each.kind if isinstance(each, ModelRow) else each.asked for each in results]
    assert kinds == [RowKind.LINKER, RowKind.FAMILIES, "load"], "it is loaded when nothing else is to be done"
    process.submit_encode("t", templates("waits"))
    process.submit_link(link_ask(3, tenant="another"))
    results = until(process, lambda results: any(isinstance(each, ModelRow) for each in results))
    assert not process.ready
    assert len(rows(results, RowKind.LINKER)) == 1, "a text of somebody else is in nobody's way"
