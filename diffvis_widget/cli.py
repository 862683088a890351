"""The ``diffvis`` command: traces, studies, pages that paint, and the quickstart notebook.

Exit codes: 0 for success, 1 for a failure (its reason is on stderr), 2 for invalid arguments, 130 after Ctrl+C.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

NOTEBOOK = "01_quickstart.ipynb"
_WIDTH = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The arguments; None for those of the process.

    Returns:
        The exit code.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("\ndiffvis: interrupted; nothing was written", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(f"diffvis: {_reason(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diffvis", description="See how a text-to-image diffusion model decides.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(command=None)

    trace = commands.add_parser("trace", help="run a prompt and save a trace of every step to a file")
    trace.set_defaults(command=_trace)
    trace.add_argument("prompt", help="the prompt, in quotes")
    trace.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write, such as run.safetensors")
    trace.add_argument(
        "--model", metavar="NAME", help="a diffusers model or folder (default: the built-in scenes model)"
    )
    trace.add_argument("--steps", type=_integer_from(1), help="denoising steps (default: the model's own)")
    trace.add_argument("--seed", type=_integer_from(0), default=0, help="seed of the noise (default: 0)")
    trace.add_argument("--guidance-scale", type=float, metavar="G", help="guidance scale (default: the model's own)")
    trace.add_argument("--negative-prompt", metavar="TEXT", help="negative prompt")
    trace.add_argument(
        "--schedule",
        choices=["uniform", "early", "late"],
        default="uniform",
        help="distribution of the steps (default: uniform)",
    )
    trace.add_argument(
        "--schedule-strength", type=float, default=60.0, metavar="S", help="strength of early and late (default: 60)"
    )
    trace.add_argument(
        "--keep",
        choices=["words", "layers", "heads"],
        default="layers",
        help="detail of the stored maps (default: layers)",
    )
    trace.add_argument("--concepts", type=_names, default=[], metavar="A,B", help="words outside the prompt to map")
    trace.add_argument("--image", type=Path, metavar="FILE", help="trace this image, noised, in place of a new one")
    trace.add_argument("--timesteps", type=_levels, metavar="T,T", help="with --image: noise levels (default: 500)")
    trace.add_argument("--overwrite", action="store_true", help="replace the file if it exists")

    _add_study(commands)

    page = commands.add_parser("page", help="write a page in which the scenes model paints, without Python")
    page.set_defaults(command=_page)
    page.add_argument("out", type=Path, metavar="FILE", help="file to write, such as lab.html")
    page.add_argument("--prompt", default="", help="prompt that the page paints when it opens")
    page.add_argument("--notes", type=Path, metavar="FILE", help="JSON file with notes, such as the tasks of a lesson")
    page.add_argument("--overwrite", action="store_true", help="replace the file if it exists")

    demo = commands.add_parser("demo", help="open the quickstart notebook in JupyterLab")
    demo.set_defaults(command=_demo)
    demo.add_argument("--copy-to", type=Path, metavar="FOLDER", help="work on a copy of the notebook in this folder")
    demo.add_argument("--no-browser", action="store_true", help="only print the address")
    demo.add_argument(
        "--port", type=_integer_from(0), help="port of the server (default: the first free one from 8888)"
    )
    return parser


def _add_study(commands: Any) -> None:
    study = commands.add_parser(
        "study",
        help="run many prompts and store what is measured as a table",
        usage="diffvis study PROMPTS --out FOLDER [options] | resume FOLDER [options] | report FOLDER [--html FILE]",
    )
    study.set_defaults(command=_study)
    study.add_argument(
        "source", metavar="PROMPTS", help="CSV, TSV, Parquet, JSON lines or text file; or resume, report"
    )
    study.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="the study to resume or report")
    study.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the study")
    study.add_argument("--model", metavar="NAME", help="a diffusers model or folder (default: the scenes model)")
    study.add_argument("--seeds", type=_integer_from(1), default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    study.add_argument(
        "--measures", type=_names, default=["scores", "attention"], metavar="A,B", help="what to measure"
    )
    study.add_argument("--conditions", type=_names, metavar="A,B", help="schedules: uniform, early, late")
    study.add_argument("--steps", type=_integer_from(1), help="denoising steps (default: the model's own)")
    study.add_argument("--guidance-scale", type=float, metavar="G", help="guidance scale (default: the model's own)")
    study.add_argument(
        "--keep-traces", choices=["none", "compact", "full"], default="none", help="trace files to store"
    )
    study.add_argument(
        "--batch", type=_integer_from(1), default=1, metavar="N", help="rows to run together, at most (default: 1)"
    )
    study.add_argument("--shard", type=_shard, metavar="I/N", help="make only part I of N, from 0/N to N-1/N")
    study.add_argument("--executor", choices=["local", "ray"], default="local", help="where to run (default: local)")
    study.add_argument("--address", metavar="A", help="with ray: address of a cluster, such as auto")
    study.add_argument("--actors", type=_integer_from(1), metavar="N", help="with ray: number of models at work")
    study.add_argument("--gpus", type=float, metavar="G", help="with ray: GPUs of each model, such as 0.5")
    study.add_argument("--retry", action="store_true", help="make failed rows again")
    study.add_argument("--html", type=Path, metavar="FILE", help="the report (default: report.html in the study)")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _levels(text: str) -> list[float]:
    try:
        return [float(part) for part in _names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers, such as 700,500, got {text!r}") from None


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"must be I/N, such as 0/4 for the first of four parts, got {text!r}")
    return int(part), int(parts)


def _executor(options: argparse.Namespace) -> dict[str, Any]:
    values = {"address": options.address, "actors": options.actors, "num_gpus": options.gpus}
    chosen = {name: value for name, value in values.items() if value is not None}
    if chosen and options.executor != "ray":
        raise ValueError("--address, --actors and --gpus say where Ray runs: add --executor ray, or leave them out")
    return {"executor": options.executor, "executor_options": chosen or None}


def _study(options: argparse.Namespace) -> int:
    import diffvis_widget as dv

    if options.source in ("resume", "report"):
        if options.folder is None:
            raise ValueError(f"diffvis study {options.source} needs the folder of a study")
        study = dv.Study.open(options.folder)
        if options.source == "report":
            print(study.report(options.html or study.folder / "report.html"))
            return 0
        study = study.resume(options.model, retry=options.retry, shard=options.shard, **_executor(options))
    else:
        if options.out is None or options.folder is not None:
            raise ValueError("diffvis study PROMPTS needs --out, the folder of the study")
        arguments = {"num_inference_steps": options.steps, "guidance_scale": options.guidance_scale}
        study = dv.study(
            *(options.model, options.source),
            seeds=options.seeds,
            measures=options.measures,
            conditions=options.conditions,
            out=options.out,
            shard=options.shard,
            keep_traces=options.keep_traces,
            batch=options.batch,
            retry=options.retry,
            **_executor(options),
            **{name: value for name, value in arguments.items() if value is not None},
        )
    print(f"{study.folder}: {study.finished} of {study.total} rows, {study.failed} failed")
    stored = set(study.table(["row"]).column("row").to_pylist())
    return 0 if stored.issuperset(study.plan.rows(options.shard)) else 130


def _integer_from(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, got {text!r}")
        return number

    return parse


def _trace(options: argparse.Namespace) -> int:
    out: Path = options.out
    _check_target(out, options.overwrite)
    if options.timesteps and options.image is None:
        raise ValueError("--timesteps are the noise levels of --image: name the image, or use --steps")
    if options.image is not None and (options.steps or options.schedule != "uniform"):
        raise ValueError("--image is noised to --timesteps: leave out --steps and --schedule")
    import diffvis_widget as dv
    from diffvis_widget.call_defaults import call_defaults

    bar = Bar(sys.stderr)
    bar.say("loading the model")
    with contextlib.nullcontext() if sys.stderr.isatty() else dv.scenes.no_progress_bars():
        pipe: Any = dv.load(options.model)
    pipe.set_progress_bar_config(disable=True)
    done, planned = 0, options.steps or call_defaults(pipe).steps or 0

    def on_step(_: Step) -> None:
        nonlocal done
        done += 1
        bar.show(done, max(done, planned))

    started = time.perf_counter()
    trace = _traced(pipe, options, on_step)
    seconds = time.perf_counter() - started
    bar.say("writing the file")
    trace.save(out)
    bar.clear()
    print(f"{out}: {len(trace.steps)} steps in {seconds:.1f} s, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def _traced(pipe: Any, options: argparse.Namespace, on_step: Callable[[Step], None]) -> Trace:
    import diffvis_widget as dv

    common: dict[str, Any] = {
        "seed": options.seed,
        "negative_prompt": options.negative_prompt,
        "keep": options.keep,
        "concepts": options.concepts,
        **({} if options.guidance_scale is None else {"guidance_scale": options.guidance_scale}),
    }
    if options.image is None:
        return dv.trace(
            pipe,
            options.prompt,
            num_inference_steps=options.steps,
            schedule=options.schedule,
            schedule_strength=options.schedule_strength,
            on_step=on_step,
            **common,
        )
    from PIL import Image

    with Image.open(options.image) as image:
        levels = options.timesteps or [500]
        return dv.trace_image(pipe, image.convert("RGB"), options.prompt, timesteps=levels, **common)


def _page(options: argparse.Namespace) -> int:
    out: Path = options.out
    _check_target(out, options.overwrite)
    import diffvis_widget as dv
    from diffvis_widget.export.notes_file import read_notes

    notes = [] if options.notes is None else read_notes(options.notes)
    dv.playground(out, prompt=options.prompt, notes=notes)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


def _check_target(out: Path, overwrite: bool) -> None:
    """Reports at the start, not after the work, that the file cannot be written."""
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a file, such as {out / 'run.safetensors'}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.parent}")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists: name another file, or add --overwrite")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: the folder {out.parent} cannot be written to")
    from diffvis_widget.traces.file.whole_file import check_destination

    check_destination(out)


def _demo(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise RuntimeError("JupyterLab is not installed here: pip install 'diffvis-widget[lab]'")
    notebook = _notebook(options.copy_to)
    # The server opens the notebook in a browser, but prints only its default address.
    address = f"/lab/tree/{urllib.parse.quote(notebook.name)}"
    command = [sys.executable, "-m", "jupyter", "lab", str(notebook), f"--LabApp.default_url={address}"]
    command += ["--no-browser"] if options.no_browser or not _has_browser() else []
    command += [f"--port={options.port}"] if options.port is not None else []
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    print(f"diffvis: opening {notebook} in JupyterLab; the address is below. Ctrl+C ends it.", file=sys.stderr)
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:  # the usual way to end a notebook server, which receives it too
        return 0


def _notebook(folder: Path | None) -> Path:
    """The notebook to open: that of a checkout, or a copy of the installed one."""
    package = Path(__file__).parent
    checkout, installed = package.parent / "notebooks" / NOTEBOOK, package / "notebooks" / NOTEBOOK
    source = installed if installed.is_file() else checkout
    if not source.is_file():
        raise FileNotFoundError(f"the quickstart notebook is missing from {installed}: reinstall diffvis-widget")
    if source == checkout and folder is None:
        return checkout
    folder = Path.cwd() if folder is None else folder
    if not folder.is_dir():
        raise NotADirectoryError(f"--copy-to {folder} is not a folder: name one that exists")
    target = folder / ("diffvis_quickstart.ipynb" if source == installed else NOTEBOOK)
    if not target.exists():  # an existing copy may contain the user's work
        shutil.copyfile(source, target)
    return target


def _has_browser() -> bool:
    import webbrowser

    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _reason(error: Exception) -> str:
    """The error message in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is None:  # whose str() begins with a number
        text = error.strerror
    return " ".join(text.split())


class Bar:
    """A progress bar on one line of a terminal; it prints nothing anywhere else.

    Args:
        out: The stream.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._on = out.isatty()
        self._started = time.perf_counter()

    def say(self, what: str) -> None:
        """Show a message, and start measuring time.

        Args:
            what: The message.
        """
        self._line(what + " ...")
        self._started = time.perf_counter()

    def show(self, done: int, total: int) -> None:
        """Show the progress and the estimated time left.

        Args:
            done: Number of finished steps, at least 1.
            total: Number of all steps.
        """
        filled = _WIDTH * done // total
        left = (time.perf_counter() - self._started) / done * (total - done)
        self._line(f"[{'#' * filled}{'.' * (_WIDTH - filled)}] step {done} of {total}, {left:.0f} s left")

    def clear(self) -> None:
        """Clear the line."""
        self._line("")

    def _line(self, text: str) -> None:
        if self._on:
            self._out.write(f"\r\x1b[K{text}")
            self._out.flush()


if __name__ == "__main__":
    sys.exit(main())
