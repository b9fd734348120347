"""Slots: what is remembered of many series, a row per series, in columns.

Theory: structure of arrays. A tick touches one row of each of thousands of series; as columns that is a handful of
array operations. A column has a fixed shape per series, so memory is bounded by construction and known beforehand.

Rules: a slot that was never used, or was dropped, holds the columns' first values exactly. A row as bytes is the rows
of all columns in their order, little endian, so equal histories give equal bytes.

Decision: one table of columns from which growing, forgetting, storing and pickling follow, rather than four methods in
each detector, of which one would forget a column.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

Ints = NDArray[np.int64]


class Column(NamedTuple):
    """What is remembered of each series under one name."""

    name: str
    dtype: str = "<f8"
    shape: tuple[int, ...] = ()  # per series
    first: float = 0.0  # what a new series has there

    @property
    def bytes_each(self) -> int:
        """How much of it a series takes, bytes."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A bank as bytes: how many series, and each column's name and bytes."""

    count: int
    columns: list[tuple[str, bytes]]


class Slots:
    """Columns for `count` series; a subclass names them in `COLUMNS` and has each as an attribute."""

    COLUMNS: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, count: int = 0) -> None:
        self._count = 0
        self._room = {column.name: np.empty((0, *column.shape), column.dtype) for column in self.COLUMNS}
        self._show()
        self.grow(count)

    def __len__(self) -> int:
        return self._count

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state(),)  # the room is not part of what is remembered

    @classmethod
    def bytes_per_series(cls) -> int:
        """How much memory, and how many bytes as a row, each series takes."""
        return sum(column.bytes_each for column in cls.COLUMNS)

    def grow(self, count: int) -> None:
        """Make room for the slots below `count`; there is never less room than before.

        Room is doubled behind the scenes, so that series may come one by one.
        """
        if count <= self._count:
            return
        for column in self.COLUMNS:
            room = self._room[column.name]
            if len(room) < count:
                room = np.empty((max(count, 2 * len(room)), *column.shape), column.dtype)
                room[: self._count] = self._room[column.name][: self._count]
                self._room[column.name] = room
            room[self._count : count] = column.first
        self._count = count
        self._show()

    def _show(self) -> None:
        for name, room in self._room.items():
            setattr(self, name, room[: self._count])

    def drop(self, series: Ints) -> None:
        """Forget these series: their slots are as new."""
        for column in self.COLUMNS:
            getattr(self, column.name)[series] = column.first

    def row(self, series: int) -> bytes:
        """Return all that is remembered of one series."""
        return b"".join(getattr(self, column.name)[series].tobytes() for column in self.COLUMNS)

    def put(self, series: int, row: bytes) -> None:
        """Take over what `row` returned; raises ValueError where it is of another length."""
        if len(row) != self.bytes_per_series():
            raise ValueError(f"a row of {len(row)} bytes, {self.bytes_per_series()} are expected")
        at = 0
        for column in self.COLUMNS:
            found = np.frombuffer(row, column.dtype, int(np.prod(column.shape, dtype=np.int64)), at)
            getattr(self, column.name)[series] = found.reshape(column.shape)
            at += column.bytes_each

    def state(self) -> bytes:
        """Return all of it, the same bytes for equal histories."""
        columns = [(column.name, getattr(self, column.name).tobytes()) for column in self.COLUMNS]
        return msgspec.msgpack.encode(_Stored(self._count, columns))

    @classmethod
    def from_state(cls, state: bytes) -> Self:
        """Return what `state` was taken of; raises ValueError where it is not of this class."""
        stored = msgspec.msgpack.decode(state, type=_Stored)
        bank = cls(stored.count)
        if [name for name, _ in stored.columns] != [column.name for column in cls.COLUMNS]:
            raise ValueError(f"not the columns of {cls.__name__}")
        for column, (_, held) in zip(cls.COLUMNS, stored.columns, strict=True):
            getattr(bank, column.name)[:] = np.frombuffer(held, column.dtype).reshape(
                stored.count, *column.shape
            )
        return bank
