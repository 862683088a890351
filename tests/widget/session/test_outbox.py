"""The outbox: order, the cap, what is skipped and filled in later, and what a page gets that comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffvis_widget.widget.session.outbox import Outbox
from diffvis_widget.wire.messages import ScoresPayload, end_message
from diffvis_widget.wire.packed_run import Message

KB = 1024


class Page:
    """Receives; acknowledges when it is told to."""

    def __init__(self, cap: int = 64 * KB) -> None:
        self.got: list[Message] = []
        self.outbox = Outbox(lambda content, buffers: self.got.append(Message(content, tuple(buffers))), cap)
        self._acknowledged = 0

    def labels(self) -> list[str]:
        """What came since the last time this was asked."""
        labels = [label(message) for message in self.got[self._acknowledged :]]
        self._acknowledged = len(self.got)
        return labels

    def acknowledge_all(self) -> None:
        while pending := [m.content["seq"] for m in self.got if m.content["seq"] in self.outbox._in_flight]:
            for seq in pending:
                self.outbox.acknowledge(seq)


def label(message: Message) -> str:
    content = message.content
    return f"{content['type']} {content['index']}" if "index" in content else content["type"]


def run(name: str = "r1") -> Message:
    return Message({"type": "run", "run": name, "words": [1, 2, 3]})


def step(index: int, size: int = KB, name: str = "r1", exact: bool = False) -> Message:
    content = {"type": "step", "run": name, "index": index, "exact": exact, "views": ["prediction"]}
    return Message(content, (bytes([index]) * size, b"maps"))


def scores(rows: int, concepts: tuple[str, ...] = ("a", "b")) -> ScoresPayload:
    count = len(concepts)
    cosine = np.arange(rows * count).reshape(rows, count).astype(np.float32) / np.float32(100)
    nothing = np.full(count, np.nan, dtype=np.float32)
    return ScoresPayload(list(concepts), cosine, np.zeros((rows, 2), np.float32), cosine, nothing, "m")


def test_numbers_rise_strictly_from_zero_over_runs_and_errors() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.step(step(0))
    page.outbox.error("no")
    page.outbox.begin(run("r2"))
    page.outbox.hello(None, [])
    assert [message.content["seq"] for message in page.got] == list(range(len(page.got)))
    assert page.labels() == ["run", "step 0", "error", "run", "run"]


def test_unacknowledged_bytes_stay_under_the_cap_and_the_newest_step_goes_first() -> None:
    page = Page(cap=10 * KB)
    page.outbox.begin(run())
    for index in range(20):
        page.outbox.step(step(index, 3 * KB))
        assert page.outbox.in_flight <= 10 * KB
    assert page.labels() == ["run", "step 0", "step 1"]
    page.outbox.acknowledge(0)
    page.outbox.acknowledge(1)
    assert page.labels() == ["step 19"]
    page.acknowledge_all()
    assert page.labels() == [f"step {index}" for index in range(2, 19)]
    assert page.outbox.in_flight == 0


def test_a_message_larger_than_the_cap_goes_alone() -> None:
    page = Page(cap=KB)
    page.outbox.begin(run())
    page.outbox.step(step(0, 5 * KB))
    assert page.labels() == ["run"]
    page.acknowledge_all()
    assert page.labels() == ["step 0"]


def test_the_end_does_not_wait_for_the_gaps() -> None:
    page = Page(cap=5 * KB)
    page.outbox.begin(run())
    for index in range(4):
        page.outbox.step(step(index, 3 * KB))
    page.outbox.end(end_message("r1", "done", 4, 1.0))
    page.labels()
    page.acknowledge_all()
    assert page.labels() == ["step 3", "end", "step 1", "step 2"]


def test_a_new_run_drops_what_was_still_to_be_sent() -> None:
    page = Page(cap=2 * KB)
    page.outbox.begin(run())
    for index in range(5):
        page.outbox.step(step(index))
    page.labels()
    page.outbox.begin(run("r2"))
    page.outbox.step(step(4))  # late, of the run before
    page.outbox.frame("r1", 2, b"late")
    page.outbox.end(end_message("r1", "stopped", 5, 1.0))
    page.acknowledge_all()
    assert page.labels() == ["run"]


def test_an_exact_frame_replaces_the_preview() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.step(step(0))
    page.outbox.frame("r1", 0, b"exact")
    assert page.labels() == ["run", "step 0", "frame 0"]
    assert page.got[-1].buffers == (b"exact",)
    payload = page.outbox.payload()
    assert payload is not None
    stored = payload.messages()[1]
    assert stored.buffers == (b"exact", b"maps")
    assert stored.content["exact"] is True


def test_an_exact_noisy_image_replaces_its_preview_alone() -> None:
    page = Page()
    page.outbox.begin(run())
    content = {"type": "step", "run": "r1", "index": 0, "exact": True, "views": ["prediction", "latents"]}
    page.outbox.step(Message({**content, "previews": ["latents"]}, (b"prediction", b"preview", b"maps")))
    page.outbox.frame("r1", 0, b"exact", "latents")
    assert page.got[-1].content["view"] == "latents"
    assert page.got[-1].buffers == (b"exact",)
    payload = page.outbox.payload()
    assert payload is not None
    stored = payload.steps[0]
    assert stored.buffers == (b"prediction", b"exact", b"maps")
    assert "previews" not in stored.content
    # the page has the prediction; the noisy image was lost
    page.outbox.acknowledge(page.got[-2].content["seq"])
    page.outbox.hello("r1", [0])
    frames = [message for message in page.got if message.content["type"] == "frame"]
    assert [message.content.get("view") for message in frames] == ["latents", "latents"]


def test_a_reply_without_a_run_is_sent_during_a_run() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.reply(Message({"type": "more", "id": 4}, (b"script",)))
    assert page.got[-1].content["id"] == 4
    page.outbox.acknowledge(page.got[-1].content["seq"])


def test_a_step_that_was_not_sent_yet_goes_out_with_its_exact_image() -> None:
    page = Page(cap=2 * KB)
    page.outbox.begin(run())
    page.outbox.step(step(0, 2 * KB))
    page.outbox.frame("r1", 0, b"exact")
    page.acknowledge_all()
    assert page.labels() == ["run", "step 0"]
    assert page.got[-1].buffers[0] == b"exact"


def test_a_reply_that_concerns_no_run_goes_out_while_a_run_is_shown() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.reply(Message({"type": "more", "id": 1}, (b"script",)))
    assert page.labels() == ["run", "more"]


def test_a_frame_of_a_step_that_is_not_there_is_dropped() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.frame("r1", 3, b"exact")
    assert page.labels() == ["run"]


def test_scores_send_only_new_rows_until_the_concepts_change() -> None:
    page = Page()
    page.outbox.begin(run())
    page.outbox.scores("r1", scores(2))
    page.outbox.scores("r1", scores(5))
    page.outbox.scores("r1", scores(5, ("a",)))
    sent = [message.content for message in page.got[1:]]
    assert [(content["start"], len(content["cosine"])) for content in sent] == [(0, 2), (2, 3), (0, 5)]
    assert sent[1]["cosine"] == [[0.04, 0.05], [0.06, 0.07], [0.08, 0.09]]
    assert sent[1]["emergence"] == [None, None]


def test_a_page_that_has_nothing_gets_everything() -> None:
    page = Page(cap=10**6)
    fill(page.outbox)
    page.acknowledge_all()
    page.labels()
    page.outbox.hello(None, [])
    assert page.labels() == ["run", "step 3", "end", "scores", "step 0", "step 1", "step 2"]
    assert page.got[-4].content["start"] == 0


def test_a_page_gets_only_the_steps_that_it_misses() -> None:
    page = Page(cap=10**6)
    fill(page.outbox)
    page.acknowledge_all()
    page.labels()
    page.outbox.hello("r1", [0, 3])
    assert page.labels() == ["end", "scores", "step 1", "step 2"]


def test_a_page_with_another_run_gets_all_of_this_one() -> None:
    page = Page(cap=10**6)
    fill(page.outbox)
    page.labels()
    page.outbox.hello("r0", [0, 1, 2, 3])
    assert page.labels() == ["run", "step 3", "end", "scores", "step 0", "step 1", "step 2"]


def test_a_lost_exact_image_is_sent_again_and_one_that_arrived_is_not() -> None:
    page = Page(cap=10**6)
    fill(page.outbox)
    page.outbox.frame("r1", 1, b"exact 1")
    page.acknowledge_all()
    page.outbox.frame("r1", 2, b"exact 2")  # the page never says that it got this one
    page.labels()
    page.outbox.hello("r1", [0, 1, 2, 3])
    assert page.labels() == ["end", "scores", "frame 2"]


def test_a_page_that_came_back_is_not_held_up_by_what_the_old_one_never_acknowledged() -> None:
    page = Page(cap=5 * KB)
    page.outbox.begin(run())
    for index in range(6):
        page.outbox.step(step(index, 3 * KB))
    page.labels()
    page.outbox.hello(None, [])
    assert page.labels() == ["run", "step 5"]


@pytest.mark.parametrize("seq", [None, "x", -1, 10**9, 1.5, [1]])
def test_odd_acknowledgements_change_nothing(seq: Any) -> None:
    page = Page()
    page.outbox.begin(run())
    before = page.outbox.in_flight
    page.outbox.acknowledge(seq)
    assert page.outbox.in_flight == before


def test_odd_greetings_get_the_run() -> None:
    page = Page()
    page.outbox.hello(None, [])
    assert page.labels() == []
    page.outbox.begin(run())
    page.outbox.step(step(0))
    page.acknowledge_all()
    page.labels()
    page.outbox.hello("r1", ["0", None, 7.5])
    assert page.labels() == ["step 0"]


def test_messages_are_the_whole_run_in_reading_order() -> None:
    page = Page()
    assert page.outbox.payload() is None
    fill(page.outbox)
    payload = page.outbox.payload()
    assert payload is not None
    messages = payload.messages()
    assert [label(message) for message in messages] == [
        "run", "step 0", "step 1", "step 2", "step 3", "scores", "end",
    ]  # fmt: skip
    assert [message.content["seq"] for message in messages] == list(range(7))
    assert page.outbox.words == 3


def fill(outbox: Outbox) -> None:
    outbox.begin(run())
    for index in range(4):
        outbox.step(step(index))
    outbox.scores("r1", scores(4))
    outbox.end(end_message("r1", "done", 4, 1.0))
