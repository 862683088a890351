"""The `diffvis` command, run as a user runs it: files written, words on stderr, exit codes."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget import cli
from tests import pipelines, pipelines_unet

PROMPT = "a red circle above a blue square"
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny model as a folder."""
    folder = tmp_path_factory.mktemp("model")
    pipelines.stable_diffusion().save_pretrained(folder)
    return str(folder)


def test_trace_writes_what_trace_gives(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.safetensors"
    options = ["--steps", "3", "--seed", "7", "--guidance-scale", "4", "--negative-prompt", "dark", "--keep", "words"]
    assert cli.main(["trace", PROMPT, "--model", model, "--out", str(out), *options]) == 0
    trace = dv.open_trace(out)
    alone = dv.trace(
        pipelines.stable_diffusion(), PROMPT, seed=7, num_inference_steps=3, guidance_scale=4.0, negative_prompt="dark"
    )
    assert np.array_equal(trace.image, alone.image)
    assert np.array_equal(trace.latents, alone.latents)
    assert (trace.keep, trace.meta["seed"]) == ("words", 7)
    output = capsys.readouterr()
    assert output.out.startswith(f"{out}: 3 steps in ")
    assert "\r" not in output.err  # no terminal, no bar


def test_trace_uses_the_defaults_of_the_pipeline(tmp_path: Path) -> None:
    pipelines_unet.latent_consistency().save_pretrained(tmp_path / "model")
    out = tmp_path / "run.safetensors"
    assert cli.main(["trace", PROMPT, "--model", str(tmp_path / "model"), "--out", str(out)]) == 0
    trace = dv.open_trace(out)
    assert (len(trace.steps), trace.meta["guidance_scale"]) == (4, 8.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "0"], "whole number of 1 or more, got '0'"),
        (["--steps", "1.5"], "whole number of 1 or more, got '1.5'"),
        (["--seed", "x"], "whole number of 0 or more, got 'x'"),
        (["--schedule", "soon"], "invalid choice"),
        ([], None),
    ],
)
def test_arguments_that_cannot_be(options: list[str], says: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["trace", PROMPT, *(["--out", "x.safetensors"] if says else []), *options])
    assert ended.value.code == 2
    assert (says or "--out") in capsys.readouterr().err


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    output = capsys.readouterr().err
    assert "trace" in output
    assert "demo" in output


def test_a_target_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "there.safetensors"
    target.write_text("precious")
    targets = {
        tmp_path: "is a folder",
        tmp_path / "no" / "run.safetensors": "there is no folder",
        target: "--overwrite",
    }
    for out, says in targets.items():
        # a model that does not exist would be the error if the target were looked at later
        assert cli.main(["trace", PROMPT, "--model", "/no/such/model", "--out", str(out)]) == 1
        output = capsys.readouterr().err
        assert output.startswith("diffvis: ")
        assert says in output
    assert target.read_text() == "precious"


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run.safetensors"
    assert cli.main(["trace", PROMPT, "--model", str(tmp_path / "nothing"), "--out", str(out)]) == 1
    assert "nothing" in capsys.readouterr().err
    assert not out.exists()


def test_a_schedule_that_the_scheduler_cannot_do(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.safetensors"
    assert cli.main(["trace", PROMPT, "--model", model, "--out", str(out), "--schedule", "early"]) == 1
    assert "DDIMScheduler" in capsys.readouterr().err
    assert not out.exists()


def test_a_full_disk_leaves_no_half_file_and_keeps_the_old_one(model: str, tmp_path: Path) -> None:
    out = tmp_path / "run.safetensors"
    out.write_text("precious")
    command = [sys.executable, "-m", "diffvis_widget.cli", "trace", PROMPT, "--model", model]
    command += ["--steps", "2", "--out", str(out), "--overwrite"]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    ended = subprocess.run(command, cwd=ROOT, preexec_fn=small_disk, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "diffvis: " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert out.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [out]


def test_a_terminal_gets_a_bar(model: str, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "diffvis_widget.cli", "trace", PROMPT, "--model", model, "--steps", "4"]
    ended = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run.safetensors")], cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not part:
            break
        output += part
    os.close(main)
    assert ended.stdout is not None
    assert b"4 steps in" in ended.stdout.read()
    ended.stdout.close()
    assert ended.wait(60) == 0
    text = output.decode()
    assert "loading the model" in text
    for step in range(1, 5):
        assert f"step {step} of 4" in text


def test_demo_opens_the_notebook_of_a_checkout_and_a_copy_elsewhere(tmp_path: Path) -> None:
    original = ROOT / "notebooks" / cli.NOTEBOOK
    assert cli._notebook(None) == original
    copy = cli._notebook(tmp_path)
    assert copy.parent == tmp_path
    assert json.loads(copy.read_text()) == json.loads(original.read_text())
    copy.write_text("my own work")
    assert cli._notebook(tmp_path).read_text() == "my own work"
    with pytest.raises(NotADirectoryError, match="not a folder"):
        cli._notebook(tmp_path / "nowhere")


def test_page_writes_the_tasks_of_a_lesson(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, tasks = tmp_path / "lab.html", ROOT / "docs" / "pages" / "lab" / "tasks.json"
    assert cli.main(["page", str(out), "--prompt", PROMPT, "--notes", str(tasks)]) == 0
    assert out.stat().st_size < 28e6
    assert "open it in a browser" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "is no JSON file: Expecting"),
        ("{}", "must hold a list of notes"),
        ('["Look"]', "note 1 must be an object with a \"text\", not 'Look'"),
        ('[{"text": "Look"}, {"text": "Look", "expect": "steps > 1"}]', "note 2 has no field 'expect'; did you mean"),
        ('[{"text": "Look", "expects": "meter(moon) > 1"}]', "note 1: expects: after 'meter(' a text in quotation"),
        ('[{"text": "Look", "step": "first"}]', "note 1: step must be a whole number"),
    ],
)
def test_page_refuses_what_are_no_notes(
    written: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, notes = tmp_path / "lab.html", tmp_path / "notes.json"
    notes.write_text(written, encoding="utf-8")
    assert cli.main(["page", str(out), "--notes", str(notes)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()
