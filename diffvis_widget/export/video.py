"""Pictures as an MP4 film, by the ffmpeg of the machine or the one that the package imageio-ffmpeg brings."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

MISSING = (
    'mp4 needs ffmpeg, and there is none: pip install "diffvis-widget[film]" brings one, or install it for the whole '
    "machine (apt-get install ffmpeg, brew install ffmpeg); webp and gif need nothing"
)
# Players take untagged colours for one standard or another by the size of the film, so it is converted and tagged.
_COLOURS = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
_TAGS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]


def ffmpeg() -> str | None:
    """The ffmpeg to use; None where there is none."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed; or installed without its binary
        return None


def film(frames: Iterator[Image.Image], fps: float, still: int) -> bytes:
    """H.264 in MP4, yuv420p: every player shows it. All frames are of one size; an odd one gets a row or column more.

    fps: frames a second. still: how often the last frame is repeated.

    Raises RuntimeError where there is no ffmpeg, or where it cannot make the film, with its own words.
    """
    program = ffmpeg()
    if program is None:
        raise RuntimeError(MISSING)
    first = _even(next(frames))
    height, width, _ = first.shape
    with tempfile.TemporaryDirectory() as folder:
        target, said = Path(folder, "film.mp4"), Path(folder, "said.txt")
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-framerate", f"{fps:g}"]
        coded = ["-c:v", "libx264", "-crf", "18", "-preset", "medium", "-vf", _COLOURS, *_TAGS]
        whole = ["-movflags", "+faststart", "-y", str(target)]
        command = [program, "-loglevel", "error", *raw, "-i", "pipe:0", "-an", *coded, *whole]
        with said.open("wb") as words:
            coder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
            try:
                _feed(coder, first, frames, still)
            except BaseException:  # a frame could not be painted, or nobody wants the film any more
                coder.kill()
                coder.communicate()
                raise
        if coder.returncode or not target.is_file():
            reason = said.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            raise RuntimeError(f"mp4: {program} could not make the film: {reason or 'it said nothing'}")
        return target.read_bytes()


def _feed(coder: subprocess.Popen[bytes], first: np.ndarray, others: Iterator[Image.Image], still: int) -> None:
    pipe = coder.stdin
    assert pipe is not None
    last = first
    with contextlib.suppress(BrokenPipeError):  # it gave up: its words say why
        pipe.write(first.tobytes())
        for frame in others:
            last = _even(frame)
            pipe.write(last.tobytes())
        for _ in range(still):
            pipe.write(last.tobytes())
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    coder.wait()


def _even(frame: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) with even sides, as the colour planes of half the size need them."""
    pixels = np.asarray(frame.convert("RGB"))
    return np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
