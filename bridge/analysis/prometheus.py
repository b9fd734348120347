"""What a Prometheus answers to a query, as far as it is one: the envelope around the series.

Rules: pure; what is wrong is a ValueError whose message is safe to log and says nothing but what the server said.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

Series = TypeVar("Series")
#: Characters of an error that a server explains.
ERROR_CHARS = 200


class _Data(msgspec.Struct, frozen=True):
    resultType: str = ""  # noqa: N815 - as Prometheus writes it
    result: Any = None


class _Answer(msgspec.Struct):
    status: str = ""
    data: _Data = _Data()
    error: str = ""


def answer_of(body: bytes, kind: Literal["matrix", "vector"], series: type[Series]) -> list[Series]:
    """Return the series in an answer, each as a `series`.

    Raises:
        ValueError: It is no such answer, or tells of an error.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        if answer.status != "success":
            raise ValueError(f"it says: {answer.error[:ERROR_CHARS] or 'no success'}")
        if answer.data.resultType != kind:
            raise ValueError(f"it answers with something else than a {kind}")
        return msgspec.convert(answer.data.result, list[series])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it does not answer as Prometheus does: {error}") from error
