"""The paper's notebook, run from top to end as a student runs it."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """Source of each code cell -> what it printed."""
    path = ROOT / "notebooks" / "04_paper.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    return {
        cell.source: "".join(
            output.get("text", "") or output.get("data", {}).get("text/markdown", "") for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def printed(shown: dict[str, str], source: str) -> str:
    (found,) = [text for cell, text in shown.items() if source in cell]
    return found


def test_words_are_ranked_at_each_step(shown: dict[str, str]) -> None:
    lines = printed(shown, "for step in (0, 5, 11)").splitlines()
    assert [line.split(":")[0] for line in lines] == ["step  0", "step  5", "step 11"]
    assert any(word in lines[0] for word in ("balloon", "boat", "sunset"))


def test_games_are_played_beside_the_baselines(shown: dict[str, str]) -> None:
    names = {line.split()[0] for line in printed(shown, "dv.explain.games").splitlines()}
    assert names == {"DF-RISE", "DF-CAM", "random", "centre", "edge"}


def test_roles_are_recomputed_and_the_table_is_shown(shown: dict[str, str]) -> None:
    lines = printed(shown, "dv.explain.correlation").splitlines()
    assert lines[0].split() == ["role", "uniform", "early", "late"]
    for line in lines[1:]:
        assert all(0 <= float(value) <= 6 for value in line.split()[1:])
    assert {line.split()[0] for line in lines[1:]} == {"colour", "object", "relation", "setting"}
    assert "Semantics first, detail later?" in printed(shown, "report.roles(folder)")
    assert "AP over random" in printed(shown, "report.evaluation(folder)")


def test_a_real_model_is_shown_or_skipped_with_a_word(shown: dict[str, str]) -> None:
    text = printed(shown, "local_files_only=True")
    assert text == "" or text.startswith("Skipped: ")
