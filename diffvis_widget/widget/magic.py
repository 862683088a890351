"""``%%diffvis``: a cell magic whose text is a prompt. ``%load_ext diffvis_widget`` registers it with IPython."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from typing import Any, NoReturn

import traitlets as t

from .widget import DiffVis

NAME = "%%diffvis"
EXAMPLE = f"{NAME} --seed 7 --concepts circle,square\na red circle above a blue square"


class _OptionError(Exception):
    """An error message about the options of the cell."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises an exception instead of ending the interpreter."""

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        if match := re.search(r"unrecognized arguments: (\S+)", message):
            near = difflib.get_close_matches(match[1], flags, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; the options are {', '.join(flags)}"
            message = f"there is no {match[1]}{hint}" if match[1].startswith("-") else (
                f"{match[1]!r} is no option: the prompt goes into the lines below {NAME}"
            )  # fmt: skip
        raise _OptionError(f"{NAME}: {message}")


def _parser() -> _Parser:
    parser = _Parser(prog=NAME, description="Generate an image of the prompt below, and watch how.", add_help=False)
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (0)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the pipeline's own)")
    parser.add_argument("--concepts", default="", help="words for the concept meters, separated by commas")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the pipeline's own)")
    parser.add_argument("--negative", default="", help="negative prompt, in quotes")
    parser.add_argument(
        "--schedule", choices=["uniform", "early", "late"], default="uniform", help="kind of schedule (uniform)"
    )
    parser.add_argument("--strength", type=float, default=60.0, help="strength of an early or late schedule (60)")
    parser.add_argument("--pipe", help="variable that holds a diffusers pipeline (default: the built-in scenes model)")
    parser.add_argument("--name", help="variable to store the widget in")
    parser.add_argument("--help", "-h", action="store_true", help="show this help")
    return parser


def cell(line: str, text: str | None, variables: dict[str, Any]) -> DiffVis | None:
    """Make the widget that ``%%diffvis`` shows.

    Args:
        line: The options after ``%%diffvis``.
        text: The text of the cell, which is the prompt.
        variables: Variables of the notebook: ``--pipe`` names a pipeline among them, ``--name`` stores the widget
            there.

    Returns:
        The widget; None after ``--help``.

    Raises:
        UsageError: An option is unknown or invalid, or the cell has no prompt.
    """
    from IPython.core.error import UsageError

    parser = _parser()
    try:
        try:
            options = parser.parse_args(shlex.split(line))
        except ValueError as error:  # an open quote
            raise _OptionError(f"{NAME}: {error}: {line}") from error
        if options.help:
            print(f"{parser.format_help()}\nFor example:\n\n{EXAMPLE}")
            return None
        prompt = " ".join((text or "").split())
        if not prompt:
            raise _OptionError(f"{NAME}: the lines below it are the prompt; they are empty. For example:\n\n{EXAMPLE}")
        if options.name is not None and not options.name.isidentifier():
            raise _OptionError(f"{NAME}: --name must be the name of a variable, not {options.name!r}")
        if options.pipe is not None and options.pipe not in variables:
            raise _OptionError(
                f"{NAME}: --pipe {options.pipe}: there is no such variable; define it in an earlier cell, as "
                f"{options.pipe} = dv.load(...)"
            )
        widget = DiffVis(
            None if options.pipe is None else variables[options.pipe],
            prompt=prompt,
            concepts=[word for part in options.concepts.split(",") if (word := part.strip())],
            seed=options.seed,
            steps=options.steps,
            guidance_scale=options.guidance,
            negative_prompt=options.negative,
            schedule=options.schedule,
            schedule_strength=options.strength,
        )
    except _OptionError as error:
        raise UsageError(str(error)) from None
    except (t.TraitError, TypeError, ValueError) as error:
        raise UsageError(f"{NAME}: {error}") from error
    if options.name is not None:
        variables[options.name] = widget
    return widget


def load(shell: Any) -> None:
    """Register ``%%diffvis`` with a running IPython shell.

    Args:
        shell: The shell.
    """

    def diffvis(line: str, cell_text: str | None = None) -> DiffVis | None:
        return cell(line, cell_text, shell.user_ns)

    diffvis.__doc__ = _parser().format_help()
    shell.register_magic_function(diffvis, "line_cell", "diffvis")


def unload(shell: Any) -> None:
    """Remove ``%%diffvis`` from a running IPython shell.

    Args:
        shell: The shell.
    """
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("diffvis", None)
