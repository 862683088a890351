"""``%%diffvis``: a cell whose text is a prompt. ``%load_ext diffvis_widget`` makes it known to IPython."""

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


class _Said(Exception):
    """What is wrong with the line, or its help: a sentence for the reader."""


class _Parser(argparse.ArgumentParser):
    """An argument parser that ends in an exception, not the interpreter."""

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        if found := re.search(r"unrecognized arguments: (\S+)", message):
            near = difflib.get_close_matches(found[1], flags, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(flags)}"
            message = f"there is no {found[1]}{hint}" if found[1].startswith("-") else (
                f"{found[1]!r} is no option: the prompt goes into the lines below {NAME}"
            )  # fmt: skip
        raise _Said(f"{NAME}: {message}")


def _parser() -> _Parser:
    parser = _Parser(prog=NAME, description="Paint the prompt in the cell below and watch how.", add_help=False)
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--steps", type=int, default=30, help="denoising steps (30)")
    parser.add_argument("--concepts", default="", help="words for the concept meters, separated by commas")
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (7.5)")
    parser.add_argument("--negative", default="", help="negative prompt, in quotes")
    parser.add_argument("--schedule", choices=["uniform", "early", "late"], default="uniform", help="(uniform)")
    parser.add_argument("--strength", type=float, default=60.0, help="of an early or late schedule (60)")
    parser.add_argument("--pipe", help="a variable that holds a diffusers pipeline (the built-in scenes model)")
    parser.add_argument("--name", help="a variable that gets the widget")
    parser.add_argument("--help", "-h", action="store_true", help="show this")
    return parser


def cell(line: str, text: str | None, variables: dict[str, Any]) -> DiffVis | None:
    """The widget that ``%%diffvis`` shows: it paints ``text`` with the options of ``line``; None after ``--help``.

    variables: of the notebook, where ``--pipe`` looks for a pipeline and ``--name`` leaves the widget.

    Raises:
        UsageError: options that are not there or cannot have that value, a cell without a prompt.
    """
    from IPython.core.error import UsageError

    parser = _parser()
    try:
        try:
            options = parser.parse_args(shlex.split(line))
        except ValueError as error:  # an open quote
            raise _Said(f"{NAME}: {error}: {line}") from error
        if options.help:
            print(f"{parser.format_help()}\nFor example:\n\n{EXAMPLE}")
            return None
        prompt = " ".join((text or "").split())
        if not prompt:
            raise _Said(f"{NAME}: the lines below it are the prompt, and there are none. For example:\n\n{EXAMPLE}")
        if options.name is not None and not options.name.isidentifier():
            raise _Said(f"{NAME}: --name must be the name of a variable, not {options.name!r}")
        if options.pipe is not None and options.pipe not in variables:
            raise _Said(f"{NAME}: --pipe {options.pipe}: there is no such variable; make it in a cell before, as "
                        f"{options.pipe} = dv.load(...)")  # fmt: skip
        widget = DiffVis(
            None if options.pipe is None else variables[options.pipe],
            prompt=prompt,
            concepts=[word for one in options.concepts.split(",") if (word := one.strip())],
            seed=options.seed,
            steps=options.steps,
            guidance_scale=options.guidance,
            negative_prompt=options.negative,
            schedule=options.schedule,
            schedule_strength=options.strength,
        )
    except _Said as said:
        raise UsageError(str(said)) from None
    except (t.TraitError, TypeError, ValueError) as error:
        raise UsageError(f"{NAME}: {error}") from error
    if options.name is not None:
        variables[options.name] = widget
    return widget


def load(shell: Any) -> None:
    """Make ``%%diffvis`` known to a running IPython shell."""

    def diffvis(line: str, cell_text: str | None = None) -> DiffVis | None:
        return cell(line, cell_text, shell.user_ns)

    diffvis.__doc__ = _parser().format_help()
    shell.register_magic_function(diffvis, "line_cell", "diffvis")


def unload(shell: Any) -> None:
    """Take it away again."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("diffvis", None)
