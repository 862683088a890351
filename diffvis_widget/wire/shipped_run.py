"""The quickstart's run, recorded: the page shows it while the built-in model loads.

It comes with the package as the messages of a finished run, so that reading it needs neither torch nor diffusers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from diffvis_widget.shipped import QUICKSTART_RUN
from diffvis_widget.traces import Trace

from .messages import RunRequest
from .packed_run import Json, Message, pack, unpack
from .recorded_run import run_payload

RUN = "shipped"
REQUEST = RunRequest("a red circle above a blue square", seed=7, steps=30, guidance_scale=7.5)
CONCEPTS = ("circle", "square", "red", "blue")


def pack_shipped_run(trace: Trace, unknown: Collection[str] = ()) -> bytes:
    """Packs the trace of `REQUEST` as the run that comes with the package.

    Args:
        trace: the trace, with scores for `CONCEPTS`.
        unknown: words (lower case) that the model never saw in training.

    Returns:
        The packed messages.
    """
    meter = None if trace.scores is None else trace.scores.meter
    messages = run_payload(RUN, trace, unknown, meter).messages()
    return pack([Message({**messages[0].content, "shipped": True}, messages[0].buffers), *messages[1:]])


def shipped_run(request: RunRequest, concepts: Sequence[str]) -> bytes:
    """Finds the recorded run for a request of the built-in model.

    Args:
        request: what is to be run.
        concepts: the concepts to measure.

    Returns:
        The packed messages of a finished run, with scores where those of all concepts are recorded; no bytes where
        the settings are other than those of `REQUEST`.
    """
    if request != REQUEST or not QUICKSTART_RUN.exists():
        return b""
    packed = QUICKSTART_RUN.read_bytes()
    if tuple(concepts) == CONCEPTS:
        return packed
    messages = [
        message if message.content["type"] != "scores" else Message(_scores_of(message.content, concepts))
        for message in unpack(packed)
    ]
    recorded = bool(concepts) and set(concepts) <= set(CONCEPTS)
    return pack([message for message in messages if recorded or message.content["type"] != "scores"])


def _scores_of(content: Json, concepts: Sequence[str]) -> Json:
    """The scores of some of the concepts. Shares are a softmax over the set, so those of a part are scaled to sum 1."""
    columns = [content["concepts"].index(concept) for concept in concepts if concept in content["concepts"]]

    def chosen(row: Sequence[float]) -> list[float]:
        return [row[column] for column in columns]

    shares = [chosen(row) for row in content["share"]]
    return {
        **content,
        "concepts": list(concepts),
        "cosine": [chosen(row) for row in content["cosine"]],
        "share": [[value / sum(row) for value in row] for row in shares] if len(columns) > 1 else None,
        "emergence": chosen(content["emergence"]),
        **({"present": [chosen(row) for row in content["present"]]} if "present" in content else {}),
    }
