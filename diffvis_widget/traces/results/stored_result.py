"""The interface of a stored result, and the registry of its kinds.

A stored result is something computed about a run that travels with its trace: into the trace file, the compact file
and the pages. To add a kind, derive one class from `StoredResult` and decorate it with `register_result`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.types import Floats, Step, Word

RESERVED = frozenset(
    {"format", "prompt", "negative_prompt", "keep", "words", "negative_words", "layers", "steps", "meta", "pictures"}
    | {"latents", "predictions", "guidance", "maps", "negative", "outputs", "image", "results"}
)
"""Names that a trace file uses itself."""


class DescribedRun(Protocol):
    """What a result can be checked against: the run of a trace, or the header of its file."""

    @property
    def words(self) -> Sequence[Word]:
        """The words of the prompt."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The finished steps."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """Seed, scheduler and other settings."""
        ...


class StoredTensors(Mapping[str, NDArray[Any]]):
    """The tensors of one stored result, as read from a file, by their names in `StoredResult.tensors`.

    Args:
        tensors: the tensors.
        label: the beginning of their names in the file, for errors.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], label: str) -> None:
        self._tensors = tensors
        self._label = label
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._tensors:
            raise TraceFileError(f"its part {self.full_name(name)!r} is missing")
        self._read.add(name)
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def full_name(self, name: str) -> str:
        """Returns the name of a tensor in the file.

        Args:
            name: its name in the result; "" is the result's main tensor.

        Returns:
            The full name.
        """
        return f"{self._label}.{name}" if name else self._label

    def floats(self, name: str, axes: int) -> Floats:
        """Reads a float32 tensor.

        Args:
            name: its name in the result.
            axes: how many axes it must have.

        Returns:
            The tensor.

        Raises:
            TraceFileError: it is missing, or has another dtype or another number of axes.
        """
        array = self[name]
        if array.dtype != np.float32 or array.ndim != axes:
            raise TraceFileError(
                f"its part {self.full_name(name)!r} is {array.dtype.name} {array.shape}, which contradicts its header"
            )
        return array

    @property
    def names_read(self) -> frozenset[str]:
        """The names of the tensors that were read so far."""
        return frozenset(self._read)


class StoredResult(ABC):
    """Base class of the kinds of results that a trace stores.

    Attributes:
        kind: name of the kind, a Python identifier: the key in a trace file.
        single: whether a trace has one at most; otherwise it has a list.
        optional_tensors: tensors that a compact file may leave out to stay small; `read` must do without them.
    """

    kind: ClassVar[str]
    single: ClassVar[bool] = False
    optional_tensors: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def check(self, run: DescribedRun) -> None:
        """Checks that the result belongs to a run; called before saving and after loading.

        Args:
            run: the run.

        Raises:
            ValueError: it does not.
            KeyError: it names a word that the prompt does not have.
        """

    @abstractmethod
    def header(self) -> Mapping[str, Any]:
        """Describes everything but the arrays.

        Returns:
            A mapping that JSON can hold.
        """

    @abstractmethod
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """Names the arrays.

        Returns:
            float32, float16 or uint8 arrays by name, none of them empty.
        """

    @classmethod
    @abstractmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        """Reads a result; the file may be hostile, so types and shapes must be checked.

        Args:
            header: what `header` returned, as JSON gives it back.
            tensors: what `tensors` returned.

        Returns:
            The result.

        Raises:
            ValueError: something is missing or has another form.
        """


_kinds: dict[str, type[StoredResult]] = {}
_Kind = TypeVar("_Kind", bound=type[StoredResult])


def register_result(kind: _Kind) -> _Kind:
    """Registers a kind of stored result, so that traces, files and pages store it. Use it as a class decorator.

    Args:
        kind: the class.

    Returns:
        The class.

    Raises:
        ValueError: its name is no identifier, is reserved, or belongs to another class.
    """
    name = kind.kind
    if not name.isidentifier() or name in RESERVED:
        raise ValueError(f"kind must be an identifier other than {', '.join(sorted(RESERVED))}, not {name!r}")
    existing = _kinds.get(name)
    # a cell that defines the class may run twice
    if existing is not None and (existing.__module__, existing.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(f"kind {name!r} belongs to {existing.__module__}.{existing.__qualname__}: choose another name")
    _kinds[name] = kind
    return kind


def result_kinds() -> dict[str, type[StoredResult]]:
    """Lists the registered kinds of stored results.

    Returns:
        The classes by their names, in the order of registration.
    """
    return dict(_kinds)


def check_results(run: DescribedRun, results: Mapping[str, Sequence[StoredResult]]) -> None:
    """Checks all results of a run.

    Args:
        run: the run.
        results: its results by kind.

    Raises:
        ValueError: a result does not belong to the run.
        KeyError: a result names a word that the prompt does not have.
    """
    for stored in results.values():
        for result in stored:
            result.check(run)
