"""From what pydantic found to a sentence that says what to write instead.

Rule: a sentence never holds the value that is wrong, which may be a secret; it may hold what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.config.document import Document, Place

_SENTENCES = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number, without quotes",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, without quotes",
    "list_type": "must be a list: [a, b], or lines that begin with `- `",
    "dict_type": "must be a mapping of `key: value` lines",
    "model_type": "must be a mapping of `key: value` lines",
    "finite_number": "must be a finite number",
}
_ABOUT_KEYS = {"missing", "extra_forbidden"}
_NOTHING = "has no value; write one or remove the key"
_BOOLEAN = "YAML reads an unquoted yes, no, on, off, true or false as a switch; write '{word}' in quotes"
_CLOCK = "YAML reads unquoted digits with colons as a base-60 number; put quotes around them"
_NUMBER = "YAML reads it as a number; put quotes around it"
#: Errors of a value that was to be a number or a switch, where text of a variable may be meant as one.
_TYPED = {"bool_type", "int_type", "float_type"}


def report(error: ValidationError, document: Document, place: Place, model: type[BaseModel]) -> None:
    """Note every error of one validation, which began at `place` with `model`, as a fault of the document.

    A place that has a fault already (a variable that is not set) gets no second one, and of the ways in which
    a value could have been right only one is told.
    """
    told = {fault.place for fault in document.faults}
    found_all = error.errors(include_url=False)
    for found in sorted(found_all, key=lambda found: found["type"] == "is_instance_of"):
        at: Place = (*place, *found["loc"])
        if found["type"] not in _ABOUT_KEYS:
            at = document.known(at)  # without the names pydantic gives to branches
        if at not in told or found["type"] in _ABOUT_KEYS:
            document.fault(at, sentence(found, document, at, model))
        told.add(at)


def variables(error: ValidationError, document: Document, place: Place) -> list[Place]:
    """Return the places where a variable's text stands and a number or a switch is needed."""
    places = [(*place, *found["loc"]) for found in error.errors(include_url=False) if found["type"] in _TYPED]
    return [needed for needed in places if needed in document.expanded]


def sentence(found: ErrorDetails, document: Document, at: Place, model: type[BaseModel]) -> str:
    """Return what is wrong at a place and what to write instead."""
    if found["type"] == "missing":
        return _missing(found["loc"], model)
    if found["type"] == "extra_forbidden":
        return unknown(str(found["loc"][-1]), keys(_model_at(model, found["loc"][:-1])), "key")
    trap = _trap(document.unquoted.get(at))
    if trap and (found["type"] == "string_type" or trap == _NOTHING):
        return trap
    return _plainly(found) + (f" ({trap})" if trap and trap != _NUMBER else "")


def _plainly(found: ErrorDetails) -> str:
    kind = found["type"]
    if kind in {"literal_error", "enum"}:
        return "must be one of " + ", ".join(re.findall(r"'([^']*)'", found["ctx"]["expected"]))
    if kind == "value_error":
        return str(found["ctx"]["error"])
    return _SENTENCES.get(kind) or re.sub(r"^\w+ should", "must", found["msg"])


def unknown(name: str, known: Iterable[str], what: str) -> str:
    """Return that `name` does not exist, with what was probably meant or what there is."""
    known = tuple(known)
    close = get_close_matches(name, known, n=1)
    if close:
        return f"unknown {what}; did you mean `{close[0]}`?"
    return f"unknown {what}; there " + (f"are: {', '.join(known)}" if known else "is none here")


def keys(model: type[BaseModel] | None) -> list[str]:
    """Return the keys of a mapping as a user writes them."""
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def path_of(place: Place, data: Any) -> str:
    """Return `place` as a path, list entries by their name where they have one: `destinations.siem.token`."""
    words: list[str] = []
    for part in place:
        data = _inside(data, part)
        if isinstance(part, str):
            words.append(f".{part}")
        else:
            name = data.get("name") if isinstance(data, dict) else None
            words.append(f".{name}" if isinstance(name, str) and name else f"[{part}]")
    return "".join(words).lstrip(".")


def _inside(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(str(part))
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _missing(loc: Sequence[str | int], model: type[BaseModel] | None) -> str:
    key = str(loc[-1])
    twin = f"{key}_file"
    also = f", or `{twin}:` with the path of a file" if twin in keys(_model_at(model, loc[:-1])) else ""
    return f"is missing; write `{key}: ...`{also}"


def _trap(word: str | None) -> str:
    """Return what YAML made of an unquoted word that is no text; "" where it was text or quoted."""
    if word is None:
        return ""
    if word.lower() in {"", "~", "null"}:
        return _NOTHING
    if word.lower() in {"yes", "no", "on", "off", "true", "false"}:
        return _BOOLEAN.format(word=word)
    return _CLOCK if ":" in word else _NUMBER


def _model_at(model: type[BaseModel] | None, loc: Sequence[str | int]) -> type[BaseModel] | None:
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        named = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        model = next(models_in(named.get(part)), None)
    return model


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
