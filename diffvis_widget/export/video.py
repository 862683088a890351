"""Encodes images as an MP4 video with ffmpeg: the machine's own, or that of the package imageio-ffmpeg."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

NO_FFMPEG = (
    'mp4 needs ffmpeg, which was not found: pip install "diffvis-widget[film]" brings one, or install it for the whole '
    "machine (apt-get install ffmpeg, brew install ffmpeg); webp and gif need nothing"
)
# Players guess the standard of untagged colours from the size of the video, so it is converted and tagged.
_COLOUR_FILTER = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
_COLOUR_TAGS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]


def find_ffmpeg() -> str | None:
    """Find an ffmpeg program.

    Returns:
        Its path; None where there is none.
    """
    if path := shutil.which("ffmpeg"):
        return path
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed, or installed without its binary
        return None


def encode_mp4(frames: Iterator[Image.Image], fps: float, repeats: int) -> bytes:
    """Encode frames as H.264 in MP4 with 4:2:0 chroma, which every player shows.

    Args:
        frames: Images of one size. A side of odd length is extended by one pixel.
        fps: Frames per second.
        repeats: How often the last frame is repeated.

    Returns:
        The bytes of the file.

    Raises:
        RuntimeError: There is no ffmpeg, or it failed; the message contains its own.
    """
    program = find_ffmpeg()
    if program is None:
        raise RuntimeError(NO_FFMPEG)
    first = _pad_to_even(next(frames))
    height, width, _ = first.shape
    with tempfile.TemporaryDirectory() as folder:
        target, log_path = Path(folder, "video.mp4"), Path(folder, "log.txt")
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{width}x{height}", "-framerate", f"{fps:g}"]
        codec = ["-c:v", "libx264", "-crf", "18", "-preset", "medium", "-vf", _COLOUR_FILTER, *_COLOUR_TAGS]
        output = ["-movflags", "+faststart", "-y", str(target)]
        command = [program, "-loglevel", "error", *raw, "-i", "pipe:0", "-an", *codec, *output]
        with log_path.open("wb") as log:
            encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
            try:
                _write_frames(encoder, first, frames, repeats)
            except BaseException:  # drawing a frame failed, or was cancelled
                encoder.kill()
                encoder.communicate()
                raise
        if encoder.returncode or not target.is_file():
            reason = log_path.read_text(encoding="utf-8", errors="replace").strip()[-500:]
            raise RuntimeError(f"mp4: {program} could not encode the video: {reason or 'it printed no message'}")
        return target.read_bytes()


def _write_frames(
    encoder: subprocess.Popen[bytes], first: np.ndarray, others: Iterator[Image.Image], repeats: int
) -> None:
    pipe = encoder.stdin
    assert pipe is not None
    last = first
    with contextlib.suppress(BrokenPipeError):  # it failed: its log says why
        pipe.write(first.tobytes())
        for frame in others:
            last = _pad_to_even(frame)
            pipe.write(last.tobytes())
        for _ in range(repeats):
            pipe.write(last.tobytes())
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    encoder.wait()


def _pad_to_even(frame: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) with even sides, which chroma planes of half the size need."""
    pixels = np.asarray(frame.convert("RGB"))
    return np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
