"""The parts of a file, each validated on its own, so that a fault in one never hides those of another.

Rule: a part that is bad has its faults in the document and is left out of what is returned; the caller goes
on with what is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from bridge.config.document import Document, Place, resolved
from bridge.config.faults import keys, report, unknown, variables
from bridge.config.models import Configuration, DestinationHead
from bridge.config.settings import NOTHING_MORE, DestinationKind, DestinationSettings

Model = TypeVar("Model", bound=BaseModel)
#: Keys of a destination that its kind does not know.
_OF_ALL_KINDS = frozenset({"redact", "fallback", "fallback_after"})


class Entry(NamedTuple, Generic[Model]):
    """A good entry of a list and where it stands."""

    place: Place
    value: Model


class Parts:
    """Reads the parts of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._data: dict[str, Any] = document.data
        for key in self._data:
            if key not in keys(Configuration):
                document.fault((key,), unknown(key, keys(Configuration), "key"))

    def has(self, key: str) -> bool:
        """Return whether the file says anything under this key."""
        return key in self._data

    def plain(self, key: str) -> str:
        """Return a setting that is text, or its default where it is absent or bad."""
        given = {key: self._data[key]} if key in self._data else {}
        try:
            return str(getattr(Configuration.model_validate(given), key))
        except ValidationError as error:
            report(error, self._document, (), Configuration)
            return str(getattr(Configuration(), key))

    def section(self, key: str, model: type[Model]) -> Model:
        """Return a mapping of the file as its model, or the defaults where it is absent or bad."""
        found = self._validated(model, (key,)) if key in self._data else None
        return model() if found is None else found

    def entries(self, key: str, model: type[Model]) -> list[Entry[Model]]:
        """Return the good entries of a list."""
        found = [(place, self._validated(model, place)) for place in self._places(key)]
        return [Entry(place, value) for place, value in found if value is not None]

    def destinations(self, kinds: Mapping[str, DestinationKind], data_dir: Path) -> list[DestinationSettings]:
        """Return the good destinations; some kinds must not touch what lies in `data_dir`."""
        found = [self._destination(place, kinds, data_dir) for place in self._places("destinations")]
        return [destination for destination in found if destination is not None]

    def mentioned(self, key: str, word: str) -> list[tuple[Place, str]]:
        """Return each text under `word` in the entries of a list, of bad entries too, with its place.

        A name in an entry that has other faults is still a name, and what it refers to is still checked.
        """
        found: list[tuple[Place, Any]] = []
        for place in self._places(key, quiet=True):
            block = self._at(place)
            value = block.get(word) if isinstance(block, dict) else None
            several = value if isinstance(value, list) else []
            found += [((*place, word, index), text) for index, text in enumerate(several)]
            found += [((*place, word), value)] if isinstance(value, str) else []
        return [(place, text) for place, text in found if isinstance(text, str)]

    def keys_of(self, section: str, word: str) -> list[tuple[Place, str]]:
        """Return each key of the mapping under `word` in a section, with its place."""
        block = self._data.get(section)
        value = block.get(word) if isinstance(block, dict) else None
        return [((section, word, key), key) for key in value] if isinstance(value, dict) else []

    def _places(self, key: str, *, quiet: bool = False) -> list[Place]:
        given = self._data.get(key, [])
        if isinstance(given, list):
            return [(key, index) for index in range(len(given))]
        if not quiet:
            self._document.fault((key,), "must be a list of entries; each begins with `- `")
        return []

    def _destination(
        self, place: Place, kinds: Mapping[str, DestinationKind], data_dir: Path
    ) -> DestinationSettings | None:
        head = self._validated(DestinationHead, place)
        if head is None:
            return None
        if head.kind not in kinds:
            self._document.fault((*place, "kind"), unknown(head.kind, sorted(kinds), "kind"))
            return None
        lacks = getattr(kinds[head.kind], "lacks", "")
        if lacks:
            self._document.fault((*place, "kind"), lacks)
            return None
        settings = self._validated(kinds[head.kind].Settings, place, _OF_ALL_KINDS)
        if settings is None:
            return None
        for key, what in settings.faults(data_dir).items():
            self._document.fault((*place, key), what)
        redact = head.redact.on(NOTHING_MORE)
        return DestinationSettings(
            name=head.name, kind=head.kind, settings=settings, redact=redact, fallback=head.fallback or "",
            fallback_after_s=head.fallback_after_s,
        )  # fmt: skip

    def _validated(
        self, model: type[Model], place: Place, without: frozenset[str] = frozenset()
    ) -> Model | None:
        """Return what stands at a place as its model; `without` these keys."""
        block = self._at(place)
        try:
            return model.model_validate(
                {key: block[key] for key in block if key not in without} if without else block
            )
        except ValidationError as error:
            if not self._retyped(error, place):
                report(error, self._document, place, model)
                return None
        return self._validated(model, place, without)

    def _retyped(self, error: ValidationError, place: Place) -> bool:
        """Read a variable's text as a number or a switch where one is needed; return whether any was."""
        changed = False
        for needed in variables(error, self._document, place):
            text = self._at(needed)
            if isinstance(text, str) and not isinstance(resolved(text), str):
                self._at(needed[:-1])[needed[-1]] = resolved(text)
                changed = True
        return changed

    def _at(self, place: Place) -> Any:
        value: Any = self._data
        for part in place:
            value = value[part]
        return value
