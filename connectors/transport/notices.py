"""The sender of notices: Apprise, which knows some hundred and fifty services and says of each no more than yes or no.

Rules: Apprise blocks and may hang, so each notice has a thread, few at a time for each address and of all, and is
waited for no longer than an attempt may take; a thread cannot be stopped, and keeps its places until it ends. An
address has one target: of several Apprise says no if one fails, and those that got it would get it again and again.
What Apprise logs names addresses with the secrets in them, so its log is switched off. No reason holds more of an
address than its scheme.

Decision: threads of our own rather than an executor's, for which the interpreter waits when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from bridge.ports import Notice, NoticeResponse, Request, Response, Sender, Unreached

#: Notices under way at once, those that hang among them: of all, and to one address.
THREADS, THREADS_EACH = 32, 4
SEVERAL = "one URL, one target: Apprise does not say which of several it reached; give each a destination"
#: Loggers that show addresses: Apprise's own, and that of the HTTP library below it.
TALKATIVE = ("apprise", "urllib3")


class NoticeSender(Sender):
    """Sends `Notice` requests. Use it in one event loop."""

    def __init__(self, threads: int = THREADS) -> None:
        self._places = asyncio.Semaphore(threads)
        self._places_of: dict[str, asyncio.Semaphore] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Notice):
            return Unreached(reason="not a notice", maybe_sent=False, kind="local")
        name = request.url.partition("://")[0][:20]
        of_address = self._places_of.setdefault(request.url, asyncio.Semaphore(THREADS_EACH))
        began = False
        try:
            async with asyncio.timeout(timeout_s):
                await of_address.acquire()  # first: who waits for it keeps no place from others
                try:
                    await self._places.acquire()
                except BaseException:
                    of_address.release()
                    raise
                began = True
                return await asyncio.shield(self._begun(request, of_address))
        except TimeoutError:
            reason = f"{name} did not answer within {timeout_s:g} s" if began else "too many notices hang"
            return Unreached(reason=reason, maybe_sent=began, kind="timeout")

    def _begun(self, request: Notice, of_address: asyncio.Semaphore) -> asyncio.Future[Response]:
        """Return what a thread that begins now will have to say; its places are free once it ends."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Response] = loop.create_future()

        def end(response: Response) -> None:
            self._places.release()
            of_address.release()
            if not done.done():
                done.set_result(response)

        def run() -> None:
            response = _sent(request)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(end, response)

        threading.Thread(target=run, name="notice", daemon=True).start()
        return done

    @override
    async def close(self) -> None:
        """Nothing is kept open."""


def _sent(request: Notice) -> Response:
    try:
        notify = _notifier(request.url)
    except ImportError:
        reason = 'notices need more: pip install "tocsin[apprise]"'
        return Unreached(reason=reason, maybe_sent=False, kind="local")
    except Exception as error:  # noqa: BLE001 - some hundred and fifty modules are loaded here
        reason = f"Apprise failed: {type(error).__name__}"
        return Unreached(reason=reason, maybe_sent=False, kind="local")
    if isinstance(notify, str):
        return Unreached(reason=notify, maybe_sent=False, kind="local")
    if not request.text:
        return NoticeResponse(taken=True)
    try:
        taken = notify(
            title=request.title, body=request.text, notify_type=request.level, body_format="text",
            interpret_escapes=False,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        return Unreached(reason=f"Apprise failed: {type(error).__name__}", maybe_sent=True, kind="reset")
    return NoticeResponse(taken=bool(taken))


def _notifier(url: str) -> Callable[..., Any] | str:
    """Return what sends to an address, or why nothing does."""
    import apprise  # noqa: PLC0415 - at the first notice: it is large, and whoever sends none has no need of it

    for each in TALKATIVE:
        logging.getLogger(each).setLevel(logging.CRITICAL + 1)
    asset = apprise.AppriseAsset(async_mode=False, app_id="Tocsin", app_desc="Tocsin", app_url="")
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        return "Apprise cannot read this URL"
    if len(service) > getattr(service, "retry", 0) + 1:  # Apprise counts its own repeats (`?retry=`) as well
        return SEVERAL
    notifier = apprise.Apprise(asset=asset)
    notifier.add(service)
    notify: Callable[..., Any] = notifier.notify
    return notify
