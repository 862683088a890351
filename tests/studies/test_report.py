"""The report of a study: one page that opens without a network and shows what the table holds."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget import cli
from diffvis_widget.intervals import bootstrap_mean
from diffvis_widget.studies.charts import group_curves, round_ticks
from tests.studies.stored import store

HOSTILE = 'a <img src=x onerror="alert(1)"> star'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study by the command, as a user makes it."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "prompts.txt").write_text(f"a red circle\n{HOSTILE}\n")
    options = ["--seeds", "2", "--measures", "attention,divergence", "--conditions", "uniform,early", "--steps", "2"]
    code = cli.main(
        ["study", str(folder / "prompts.txt"), *options, "--keep-traces", "compact", "--out", str(folder / "study")]
    )
    assert code == 0
    return folder / "study"


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    assert cli.main(["study", "report", str(folder)]) == 0
    return (folder / "report.html").read_text(encoding="utf-8")


def brightness(trace: dv.Trace) -> dict[str, Any]:
    return {"brightness": float(trace.image.mean())}


class Elements(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def attributes(self, tag: str, name: str) -> list[str]:
        return [str(attributes.get(name)) for other, attributes in self.tags if other == tag]


def test_the_command_makes_the_study_of_the_function(folder: Path, tmp_path: Path) -> None:
    study = dv.study(
        *(None, ["a red circle", HOSTILE]),
        seeds=2,
        measures=["attention", "divergence"],
        conditions=["uniform", "early"],
        out=tmp_path / "study",
        progress=False,
        num_inference_steps=2,
    )
    drop = ["seconds", "trace_file"]
    assert dv.Study.open(folder).table().drop(drop) == study.table().drop(drop)


def test_the_page_shows_what_the_table_holds(folder: Path, page: str) -> None:
    elements = Elements(page)
    images = [source for source in elements.attributes("img", "src") if source.startswith("data:image/webp")]
    assert len(images) == 8
    assert len(elements.attributes("iframe", "srcdoc")) == 8
    labels = elements.attributes("svg", "aria-label")
    assert {"attention_mass over the steps", "divergence_distance over the steps"} <= set(labels)
    for text in ("8 of 8 rows, 0 failed, 2 prompts, 2 seeds", "early minus uniform", "schedule early", "Command"):
        assert text in page
    assert "that takes 8 prompts or more" in page
    compared = page[page.index("<h2>Comparisons") : page.index("<h2>Final images")]
    assert "attention_mass" in compared
    assert "divergence" not in compared, "a divergence is a comparison already"
    assert "{&#x27;" not in page, "settings are words, not dictionaries"


def test_the_call_in_the_report_makes_the_same_study(tmp_path: Path) -> None:
    prompts = [{"prompt": "a red circle", "kind": "round", "roles": {"red": "colour"}}, {"prompt": "a green star"}]
    weighted = [dv.intervene.weight(0, 2.0, (0, 1))]
    conditions = {"plain": {}, "doubled": {"guidance_scale": 9.0, "interventions": weighted}}
    measures: dict[str, Any] = {"attention": {}, "scores": {"concepts": ["circle", "star"]}, "light": brightness}
    arguments: dict[str, Any] = {"measures": measures, "progress": False, "num_inference_steps": 1, "threads": 1}
    study = dv.study(None, prompts, conditions=conditions, out=tmp_path / "first", **arguments)
    page = html.unescape(study.report(tmp_path / "report.html").read_text())
    (call,) = re.findall(r"<code>(dv\.study\(.*?\n\))</code>", page, re.DOTALL)
    call = call.replace('out="first"', f"out={str(tmp_path / 'second')!r}, progress=False")
    call = call.replace('"first/prompts.jsonl"', repr(str(tmp_path / "first" / "prompts.jsonl")))
    again = eval(call, {"dv": dv, "brightness": brightness})
    assert again._manifest.settings == study._manifest.settings
    assert again.table(["id"]) == study.table(["id"])
    assert "scores_share: circle" in page


def test_a_report_tests_what_a_study_could_find_and_corrects_for_that(tmp_path: Path) -> None:
    store(tmp_path / "study", 12, 2, failed=[3, 5])
    study = dv.Study.open(tmp_path / "study")
    page = study.report(tmp_path / "report.html").read_text()
    assert "No difference is tested" in page, "all differences are equal here"
    compared = page[page.index("<h2>Comparisons") : page.index("<h2>Final images")]
    names = re.findall(r"<tr[^>]*><td>([^<]+)</td>", compared)
    assert names == ["attention_mass", "brightness", "sharpness"]
    assert ">2</td><td>ValueError: no memory</td>" in page, "equal errors stand together"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.13, 0.48, [0.2, 0.3, 0.4]),
        (-3, 11, [0, 5, 10]),
        (2, 2, [2]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3]),
    ],
)
def test_the_ticks_of_an_axis_are_round_and_among_its_values(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == ticks


def test_the_page_requests_nothing_and_shows_prompts_as_text(page: str) -> None:
    elements = Elements(page)
    (policy,) = [value for value in elements.attributes("meta", "content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not [source for source in elements.attributes("img", "src") if not source.startswith("data:")]
    assert not {"script", "link"} & {tag for tag, _ in elements.tags}
    assert not re.findall(r"https?://(?!www\.w3\.org)", re.sub(r'srcdoc="[^"]*"', "", page))
    assert set(elements.attributes("iframe", "sandbox")) == {"allow-scripts allow-downloads"}
    assert "onerror" not in {name for _, attributes in elements.tags for name in attributes}


def test_a_study_without_traces_has_no_script_in_its_report(tmp_path: Path) -> None:
    study = dv.study(*(None, ["a red circle"]), measures=[], out=tmp_path / "s", progress=False, num_inference_steps=1)
    page = study.report(tmp_path / "report.html").read_text()
    assert "script-src 'none'" in page
    assert "<iframe" not in page
    with pytest.raises(ValueError, match=r"\.html"):
        study.report(tmp_path / "report.pdf")


def test_group_curves_are_means_over_prompts_not_over_rows() -> None:
    generator = np.random.default_rng(0)
    prompts = [str(number) for number in range(10) for _ in range(1 + number % 3)]
    curves = [generator.normal(size=3) for _ in prompts]
    (group,) = group_curves([*curves, None, np.array([np.nan] * 3)], ["a"] * (len(prompts) + 2), [*prompts, "x", "y"])
    means = [
        np.mean([c for c, p in zip(curves, prompts, strict=True) if p == name], axis=0)
        for name in dict.fromkeys(prompts)
    ]
    assert np.allclose(group.mean, np.mean(means, axis=0))
    interval = bootstrap_mean([mean[1] for mean in means])[:2]
    np.testing.assert_allclose((group.low[1], group.high[1]), interval, rtol=1e-12)
    assert group.prompts == 10


def test_a_study_is_resumed_by_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "resume", str(folder), "--shard", "0/2"]) == 0
    assert "8 of 8 rows, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume"], "needs the folder of a study"),
        (["report", "missing"], "missing holds no study"),
        (["prompts.csv"], "needs --out"),
        (["missing.csv", "--out", "s"], "there is no file missing.csv"),
        (["empty.csv", "--out", "s"], "one prompt or more; empty.csv holds none"),
        (["empty.csv", "--out", "s", "--actors", "2"], "add --executor ray"),
        (["resume", "empty.csv", "--address", "auto"], "holds no study"),
    ],
    ids=["no folder", "no study", "no out", "no prompts", "no row", "no ray", "no folder of a study"],
)
def test_wrong_commands_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").write_text("prompt\n")
    assert cli.main(["study", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_shard_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["study", "prompts.csv", "--out", "s", "--shard", "4/4"])
    assert "must be I/N" in capsys.readouterr().err
