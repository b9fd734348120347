"""The models' process: one niced child that encodes texts and fits families, and its owner in the analyst.

Rules: the child does the heavy work (`bridge.app.models_child`). The owner never waits: the analyst
submits, polls between batches, and passes on what is ready as bodies of inbox rows. The child can be killed
at any time with nothing lost but time: the owner starts it anew and asks again. What killed it twice, or
makes it raise, is given up on and named.

Decision: one job at a time is with the child and the owner keeps the queue. So a death has exactly one
suspect, tenants take turns, and a newer fit replaces a waiting one. Loading the model is a job of its own,
for which nobody's text is blamed; only texts wait for it.

Decision: a fit's model lives in the child only, and the owner keeps the ask it came from. A fit is a pure
function of its ask, so after a death the child makes the same model again; pickled models (4 to 15 MB for
each tenant) would have to travel and be kept.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Literal

import msgspec

from bridge import encoder
from bridge.analysis.families import FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.reviewing import ReviewAsk
from bridge.app import models_child as child
from bridge.app.models_queue import CHUNK, Encode, Fit, Job, Link, Load, Predict, Queue, Review
from bridge.model import RowKind, Template, Word

#: Texts of one tenant that may wait; more are refused, so that a flood of texts cannot fill the memory.
MAX_WAITING = 20_000
#: Vectors younger than the last fit that are kept per tenant, to be placed in the next one.
MAX_FRESH = 5_000
#: Deaths of the child after which the item it was busy with is given up on.
MAX_DEATHS = 2
#: How long the child may be busy with one job before it is taken for hung, seconds. It is niced: be patient.
DEADLINES_S = {
    "load": 300.0,
    "encode": 120.0,
    "predict": 120.0,
    "fit": 1800.0,
    "link": 1800.0,
    "review": 1800.0,
}
#: Pause before the child is started again after it failed to load, doubled each time, seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0


# ---- what comes out --------------------------------------------------------------------------------------


class ModelRow(Word, frozen=True, kw_only=True):
    """A finished result, ready to become an inbox row with `body` (JSON); `kind` is one that only models tell."""

    tenant: str
    kind: RowKind
    body: str


class GaveUp(Word, frozen=True, kw_only=True):
    """Something that will not be done. After a failed "load" nothing works; it is tried again and again."""

    tenant: str
    asked: Literal["load", "encode", "fit", "predict", "link", "review"]
    templates: tuple[str, ...]  # ids of those that were to be encoded or predicted
    reason: str
    fit: int | None = None  # the number of a fit, a linker or reviews that were asked for


Result = ModelRow | GaveUp


# ---- the owner -------------------------------------------------------------------------------------------


class _Context(SpawnContext):
    """A spawn context that remembers the process the executor made, to name and to end it."""

    process: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override,explicit-override]  # noqa: N802
        self.process = SpawnProcess(*args, **kwargs)
        return self.process


class ModelsProcess:
    """Owns the child. All methods return at once, except `close`, which waits for the killed child."""

    def __init__(self, folder: str = "", *, load: child.Loader | None = None) -> None:
        """Prepare; the child starts with the first `poll`.

        Args:
            folder: A sentence-transformers model; "" for the packaged all-MiniLM-L6-v2.
            load: Makes another encoder, in the child; must be picklable.
        """
        self._load: child.Loader = load or partial(encoder.load, folder)
        self._queue = Queue()
        self._asks: dict[str, FitAsk] = {}  # what the fit in force was made of
        self._fresh: dict[str, dict[str, bytes]] = {}  # vectors made since the last fit was asked for
        self._executor: ProcessPoolExecutor | None = None
        self._context = _Context()
        self._running: tuple[Job, Future[Any], float] | None = None
        self._model = ""
        self._failed_loads = 0
        self._start_at_s = 0.0  # on the monotonic clock
        self.deaths = 0

    @property
    def ready(self) -> bool:
        """Whether the child has loaded its model and lives as far as is known."""
        return bool(self._model)

    @property
    def pid(self) -> int | None:
        """The child's process id, None before it has one."""
        return self._context.process.pid if self._executor and self._context.process else None

    @property
    def waiting(self) -> int:
        """How many jobs are not finished."""
        return len(self._queue) + (self._running is not None)

    def submit_encode(self, tenant: str, templates: Iterable[Template]) -> bool:
        """Ask for vectors. False: too many texts of this tenant wait already and none of these was taken.

        Asks for single texts are put together: they come at short intervals and a call costs a round trip.
        """
        asked = tuple(templates)
        if self._queue.texts(tenant) + len(asked) > MAX_WAITING:
            return False
        asked = self._queue.take_open_chunk(tenant) + asked
        for start in range(0, len(asked), CHUNK):
            self._queue.put(Encode(tenant=tenant, templates=asked[start : start + CHUNK]))
        return True

    def submit_fit(self, ask: FitAsk) -> None:
        """Ask for families. Replaces a fit of this tenant that has not begun."""
        self._queue.put(Fit(tenant=ask.tenant, ask=ask))

    def submit_link(self, ask: LinkAsk) -> None:
        """Ask for a linker. Replaces one of this tenant that has not begun."""
        self._queue.put(Link(tenant=ask.tenant, ask=ask))

    def submit_review(self, ask: ReviewAsk) -> None:
        """Ask for reviews of detectors. Replaces those of this tenant that have not begun."""
        self._queue.put(Review(tenant=ask.tenant, ask=ask))

    def poll(self) -> list[Result]:
        """Return what was finished since the last call, per tenant in the order asked; start what is next."""
        results: list[Result] = []
        if self._running is not None:
            job, future, until_s = self._running
            if future.done():
                self._running = None
                results = self._settle(job, future)
            elif time.monotonic() > until_s:
                self._kill()  # the executor notices; the next poll sees a death
        if self._running is None:
            self._begin()
        return results

    def close(self) -> None:
        """End the child whatever it does. What was not finished is forgotten."""
        self._running = None
        self._stop_child()

    # -- one job at a time

    def _begin(self) -> None:
        if self._died_idle():
            self.deaths += 1
            self._stop_child()
        now_s = time.monotonic()
        job = self._next(now_s)
        if job is None:
            return
        call = self._call(job)
        if call is None:
            return
        function, arguments = call
        if self._executor is None:
            self._executor = ProcessPoolExecutor(1, mp_context=self._context, initializer=child.enter_child)
        try:
            future = self._executor.submit(function, *arguments)
        except (BrokenProcessPool, OSError) as error:  # it died just now, or no process could be made
            future = Future()
            future.set_exception(error)
        self._running = (job, future, now_s + DEADLINES_S[job.asked])

    def _next(self, now_s: float) -> Job | None:
        """Return what is done next. The model is loaded once a text waits for it, or there is nothing else to do."""
        if self._model:
            return self._queue.take()
        if now_s >= self._start_at_s and (self._queue.texts() or not len(self._queue)):
            return Load()
        return self._queue.take(texts=False)

    def _call(self, job: Job) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Return the child's function and its arguments; None where there is nothing to do any more."""
        match job:
            case Load():
                return child.load_encoder, (self._load,)
            case Encode():
                return child.encode_texts, ([template.text for template in job.templates],)
            case Fit():
                return child.fit_families, (job.ask,)
            case Link():
                return child.fit_linker, (job.ask,)
            case Review():
                return child.review_detectors, (job.ask,)
            case Predict():
                ask = self._asks.get(job.tenant)
                return None if ask is None else (child.predict_families, (job.tenant, ask.fit, job.templates))

    def _settle(self, job: Job, future: Future[Any]) -> list[Result]:
        try:
            answer = future.result()
        except BrokenProcessPool:
            return self._after_death(job)
        except Exception as error:  # noqa: BLE001  (whatever a library raises over there)
            return self._after_error(job, f"{type(error).__name__}: {error}"[:300])
        match job:
            case Load():
                self._model, self._failed_loads = answer, 0
                return []
            case Encode():
                return [self._encoded(job, answer)]
            case Fit():
                return self._fitted(job, answer)
            case Link():
                return [ModelRow(tenant=job.tenant, kind=RowKind.LINKER, body=answer.decode())]
            case Review():
                return [ModelRow(tenant=job.tenant, kind=RowKind.REVIEWS, body=answer.decode())]
            case Predict():
                return self._predicted(job, answer)

    # -- when it went well

    def _encoded(self, job: Encode, vectors: list[bytes]) -> ModelRow:
        made = {template.id: vector for template, vector in zip(job.templates, vectors, strict=True)}
        fresh = self._fresh.setdefault(job.tenant, {})
        fresh.update(made)
        while len(fresh) > MAX_FRESH:
            del fresh[next(iter(fresh))]
        if job.tenant in self._asks:
            self._queue.put_first([Predict(tenant=job.tenant, templates=tuple(made.items()))])
        told = {template_id: base64.b64encode(vector).decode() for template_id, vector in made.items()}
        return _row(job.tenant, RowKind.VECTORS, {"model": self._model, "vectors": told})

    def _fitted(self, job: Fit, assign: dict[str, str]) -> list[Result]:
        if job.again:
            return []
        self._asks[job.tenant] = job.ask
        # Texts encoded after the snapshot was taken are not in it: place them in the new families.
        fresh = {key: vector for key, vector in self._fresh.get(job.tenant, {}).items() if key not in assign}
        self._fresh[job.tenant] = fresh
        left = tuple(fresh.items())
        parts = [left[start : start + CHUNK] for start in range(0, len(left), CHUNK)]
        self._queue.put_first([Predict(tenant=job.tenant, templates=part) for part in parts])
        return [_row(job.tenant, RowKind.FAMILIES, {"fit": job.ask.fit, "assign": assign})]

    def _predicted(self, job: Predict, assign: dict[str, str] | None) -> list[Result]:
        ask = self._asks[job.tenant]
        if assign is None:  # a new child, or one that made room for other tenants
            self._queue.put_first([Fit(tenant=job.tenant, ask=ask, again=True), job])
            return []
        return [_row(job.tenant, RowKind.FAMILIES, {"fit": ask.fit, "assign": assign})]

    # -- when it did not

    def _after_death(self, job: Job) -> list[Result]:
        self.deaths += 1
        self._stop_child()
        job = msgspec.structs.replace(job, deaths=job.deaths + 1)
        if isinstance(job, Load) or job.deaths >= MAX_DEATHS:
            return self._give_up(job, f"the models' process died {job.deaths} times over it")
        self._queue.put_first(_single(job))
        return []

    def _after_error(self, job: Job, reason: str) -> list[Result]:
        parts = _single(job)
        if len(parts) > 1:
            self._queue.put_first(parts)
            return []
        return self._give_up(job, reason)

    def _give_up(self, job: Job, reason: str) -> list[Result]:
        ids: tuple[str, ...] = ()
        fit: int | None = None
        match job:
            case Load():
                pause_s = min(FIRST_PAUSE_S * 2**self._failed_loads, LONGEST_PAUSE_S)
                self._start_at_s = time.monotonic() + pause_s
                self._failed_loads += 1
                self._stop_child()
            case Encode():
                ids = tuple(template.id for template in job.templates)
            case Predict():
                ids = tuple(template_id for template_id, _ in job.templates)
            case Fit() if job.again:
                self._asks.pop(job.tenant, None)  # there is no model to predict with until the next fit
            case Fit() | Link() | Review():
                fit = job.ask.fit
        return [GaveUp(tenant=job.tenant, asked=job.asked, templates=ids, reason=reason, fit=fit)]

    def _died_idle(self) -> bool:
        """Whether the child ended while it had nothing to do."""
        process = self._context.process
        return process is not None and process.pid is not None and bool(wait([process.sentinel], 0))

    def _kill(self) -> None:
        process = self._context.process
        if process is not None and process.pid is not None:
            process.kill()

    def _stop_child(self) -> None:
        if self._executor is not None:
            self._kill()
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor, self._context, self._model = None, _Context(), ""


def _single(job: Job) -> list[Job]:
    """Return one job per text, so that one bad text does not take others with it."""
    if isinstance(job, Encode | Predict):
        return [msgspec.structs.replace(job, templates=(template,)) for template in job.templates]
    return [job]


def _row(tenant: str, kind: RowKind, body: dict[str, Any]) -> ModelRow:
    return ModelRow(tenant=tenant, kind=kind, body=msgspec.json.encode(body).decode())
