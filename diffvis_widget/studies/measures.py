"""The measures of a study by name: the built-in ones, and functions of a Trace that a user brings."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffvis_widget.arguments import check_names, did_you_mean, shorten

from .builtin_measures import BUILTIN, MeasuredRun
from .columns import BASE, Kind, checked, kind_of
from .conditions import describe


class MeasureFailed(RuntimeError):
    """A measure that a user brought raised an error, or returned what no table can hold."""


@dataclass(frozen=True)
class Measure:
    """A measure and what its columns hold.

    Attributes:
        name: Its name.
        function: Computes values by column: of a MeasuredRun for a built-in measure, of a Trace for another.
        options: Options of a built-in measure.
        columns: Kinds by column; empty where they are known only after the first run.
        source: Import path of a function, "" for a built-in measure or where there is none.
    """

    name: str
    function: Callable[..., Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    columns: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    source: str = ""

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of the built-in measures."""
        return self.name in BUILTIN and self.function is BUILTIN[self.name].function

    def values(self, run: MeasuredRun) -> dict[str, Any]:
        """Measure a run.

        Args:
            run: The run.

        Returns:
            Plain values by column.

        Raises:
            MeasureFailed: A function that is not built in failed.
        """
        if self.is_builtin:
            return checked(self.columns, self.function(run, **self.options), self.name)
        try:
            values = self.function(run.trace)
            if not isinstance(values, Mapping) or not all(isinstance(name, str) and name for name in values):
                raise TypeError(f"it must return a dictionary of values by column, not {shorten(values)}")
            return checked(self.columns or _kinds(values), values, self.name)
        except Exception as error:  # a user's function may raise anything
            raise MeasureFailed(f"the measure {self.name} failed: {type(error).__name__}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Describe it as JSON: two measures with equal descriptions measure the same.

        Returns:
            Plain values.
        """
        options = {name: _describe_option(name, value) for name, value in self.options.items()}
        entry: dict[str, Any] = {"name": self.name, "options": options}
        if not self.is_builtin:
            entry |= {"function": self.source, "code": _code_digest(self.function)}
        return entry


def check_measures(measures: Any) -> list[Measure]:
    """Check the measures of a study before anything is run.

    Args:
        measures: Names of built-in measures, functions of a Trace, or import paths ("package.module:function"); or a
            dictionary: options by the name of a built-in measure, and functions or import paths by any name.

    Returns:
        The measures.

    Raises:
        TypeError: A measure is something else, or its function does not take one trace.
        ValueError: There is no such measure or function, or two have the same name.

    Example:
        >>> [measure.name for measure in check_measures(["scores", "attention"])]
        ['scores', 'attention']
    """
    if isinstance(measures, Mapping):
        entries = list(measures.items())
    elif isinstance(measures, Sequence) and not isinstance(measures, str | bytes):
        entries = [(_name(measure), measure) for measure in measures]
    else:
        raise TypeError(f'measures must be a list such as ["scores", "attention"], not {shorten(measures)}')
    checked_measures = [_measure(name, measure) for name, measure in entries]
    names = [measure.name for measure in checked_measures]
    if len(set(names)) < len(names):
        raise ValueError(f"measures must have different names, not {names}")
    return checked_measures


def with_columns(measures: Sequence[Measure], first: Mapping[str, Mapping[str, Any]]) -> list[Measure]:
    """Complete the measures by the kinds of their columns.

    Args:
        measures: The measures.
        first: What they returned for the first run, by the name of the measure.

    Returns:
        Measures that know their columns.

    Raises:
        ValueError: Two measures have a column of the same name, or one has the name of a study's own column.
    """
    result: list[Measure] = []
    owners: dict[str, str] = dict.fromkeys(BASE, "the study itself")
    for measure in measures:
        columns: Mapping[str, Kind] = measure.columns
        if not columns:
            columns = _kinds(first[measure.name])
        for name in columns:
            if name in owners:
                raise ValueError(
                    f"measures: {measure.name} returns a column {name!r}, which {owners[name]} has: rename it"
                )
            owners[name] = measure.name
        result.append(Measure(measure.name, measure.function, measure.options, columns, measure.source))
    return result


def _kinds(values: Mapping[str, Any]) -> dict[str, Kind]:
    return {name: kind_of(name, value) for name, value in values.items()}


def _name(measure: Any) -> str:
    if isinstance(measure, str):
        return measure.rpartition(":")[2] if ":" in measure else measure
    name = getattr(measure, "__name__", type(measure).__name__)
    return "measure" if name == "<lambda>" else name


def _measure(name: Any, measure: Any) -> Measure:
    if not isinstance(name, str) or not name:
        raise ValueError(f"measures: the name of a measure must be a text, not {shorten(name)}")
    if isinstance(measure, str) and ":" in measure:
        return Measure(name, _one_argument(name, _imported(measure)), source=measure)
    if callable(measure):
        return Measure(name, _one_argument(name, measure), source=_import_path(measure))
    options = {} if isinstance(measure, str) else measure
    if name not in BUILTIN:
        raise ValueError(
            f"measures: there is no measure {name!r}; built in are {', '.join(BUILTIN)}. Any other is a "
            f'function of a Trace, or its import path, such as "package.module:function"{did_you_mean(name, BUILTIN)}'
        )
    if not isinstance(options, Mapping):
        raise TypeError(f"measures: the options of {name} must be a dictionary, not {shorten(options)}")
    builtin = BUILTIN[name]
    parameters = list(inspect.signature(builtin.function).parameters)[1:]
    check_names(f"the measure {name}", options, parameters)
    for option, value in options.items():
        _describe_option(option, value)
    return Measure(name, builtin.function, dict(options), builtin.columns)


def _imported(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    try:
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError, ValueError) as error:
        expected = 'an import path of a function, such as "package.module:function"'
        raise ValueError(f"measures: {path!r} must be {expected}: {error}") from error
    return function


def _one_argument(name: str, function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise TypeError(f"measures: {name} must be a function of a Trace, not {shorten(function)}")
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise TypeError(f"measures: {name} must take one argument, the Trace of a run") from None
    except ValueError:  # built-in functions may have no signature
        pass
    return function


def _import_path(function: Any) -> str:
    """The path by which another process finds the function; "" where it cannot."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    importable = module and name and module != "__main__" and "<" not in name
    return f"{module}:{name}" if importable else ""


def _code_digest(function: Any) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _describe_option(name: str, value: Any) -> Any:
    if hasattr(value, "scores") and hasattr(value, "label") and not isinstance(value, type):  # a meter
        return {"meter": value.label}
    if callable(value):
        return {"function": _import_path(value) or getattr(value, "__name__", "function"), "code": _code_digest(value)}
    return describe(name, value)
