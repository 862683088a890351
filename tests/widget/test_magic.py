"""%%diffvis in a real IPython shell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from diffvis_widget.widget import magic
from diffvis_widget.widget.widget import DiffVis


@pytest.fixture
def shell() -> Iterator[Any]:
    made: Any = InteractiveShell()
    made.extension_manager.load_extension("diffvis_widget")
    yield made
    made.extension_manager.unload_extension("diffvis_widget")
    assert "diffvis" not in made.magics_manager.magics["cell"]


def test_a_cell_paints_its_text(shell: Any) -> None:
    line = "--seed 7 --steps 2 --concepts circle,square --guidance 3 --name mine"
    widget = shell.run_cell_magic("diffvis", line, "a red circle\nabove a blue square\n")
    try:
        assert isinstance(widget, DiffVis)
        assert shell.user_ns["mine"] is widget
        assert widget.trace.prompt == widget.prompt == "a red circle above a blue square"
        assert (widget.seed, widget.steps, widget.guidance_scale) == (7, 2, 3.0)
        assert widget.concepts == ["circle", "square"]
    finally:
        widget.close()


def test_help(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run_cell_magic("diffvis", "--help", "\n") is None
    assert shell.run_line_magic("diffvis", "--help") is None
    output = capsys.readouterr().out
    assert "--concepts" in output
    assert magic.EXAMPLE in output


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("", "  \n", "the lines below it are the prompt"),
        ("--sed 7", "a star", "no --sed; did you mean --seed"),
        ("a star", "a star", "'a' is no option"),
        ("--steps many", "a star", "--steps"),
        ("--steps 0", "a star", "steps"),
        ("--schedule sometimes", "a star", "uniform"),
        ("--negative 'open", "a star", "quotation"),
        ("--pipe mine", "a star", "no such variable"),
        ("--name 1x", "a star", "name of a variable"),
        ("--guidance nan", "a star", "guidance_scale"),
    ],
)
def test_what_is_wrong_is_said(shell: Any, line: str, text: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        magic.cell(line, text, shell.user_ns)
