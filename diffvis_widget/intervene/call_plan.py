"""Plans the interventions of one pipeline call: which prompt is in force when, and what changes in the attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffvis_widget.tracer import Family, Intervention
from diffvis_widget.tracer.pipeline_calls import CallPrompts, PromptBatch
from diffvis_widget.traces.selectors import pick_words

from .attention import AttentionChange, Rows
from .batched_switch import Fork
from .interventions import Drop, Switch, Weight, WordSelector
from .prompt_switch import LaterPrompt, Substitution

Encoded = Callable[[Switch], tuple[Sequence[Any], PromptBatch] | None]
"""For a switch, the results of `encode_prompt` for its prompt and the prompt; None if it is the call's own prompt."""


@dataclass
class CallPlan:
    """The interventions of one pipeline call, and how far it is.

    Attributes:
        prompts: The call's own prompts.
        planned: Number of denoising steps.
        prompts_by_step: All prompts, each with the step from which it is in force, in order.
        later: The prompts that are switched to.
        substitution: Puts them into the denoiser's arguments; None where there are none.
        step: Index of the step under way.
        has_acted: Whether any attention was changed so far.
        works: The changes of attention, by what they depend on.
    """

    prompts: CallPrompts
    planned: int
    prompts_by_step: list[tuple[int, PromptBatch]]
    later: list[LaterPrompt]
    substitution: Substitution | None
    step: int = 0
    has_acted: bool = False
    works: dict[Any, AttentionChange] = field(default_factory=dict[Any, AttentionChange])

    def prompt_at(self, step: int) -> tuple[int, PromptBatch]:
        """The prompt in force at a step.

        Args:
            step: Index of a denoising step, from 0.

        Returns:
            Index of the prompt in `prompts_by_step`, and the prompt.
        """
        index = max(index for index, (begin, _) in enumerate(self.prompts_by_step) if begin <= step)
        return index, self.prompts_by_step[index][1]


def plan_call(
    family: Family,
    interventions: Sequence[Intervention],
    prompts: CallPrompts,
    results: Sequence[Any],
    encoded: Encoded,
    planned: int,
) -> CallPlan:
    """Plan the interventions of a call.

    Args:
        family: The denoiser's family.
        interventions: All that act on the call.
        prompts: The call's own prompts.
        results: Results of `encode_prompt` for them.
        encoded: Gives the prompt of a switch.
        planned: Number of denoising steps.

    Returns:
        The plan.

    Raises:
        KeyError: No prompt in force has a word of an intervention.
        ValueError: An intervention names steps that the call does not have, or drops all words, or a decision curve is
            made inside other interventions.
    """
    if len(interventions) > 1 and any(isinstance(intervention, Fork) for intervention in interventions):
        raise ValueError(
            "a decision curve cannot be made inside a block of other interventions: call decision_curve outside of it"
        )
    for intervention in interventions:
        _check_range(intervention, planned)
    later: list[LaterPrompt] = []
    switches = [switch for switch in interventions if isinstance(switch, Switch) and switch.step < planned]
    for switch in sorted(switches, key=lambda switch: switch.step):
        later_results, prompt = encoded(switch) or (results, prompts.prompt)
        points = switch.points if isinstance(switch, Fork) else None
        later.append(LaterPrompt(switch.step, prompt, later_results, points))
    if all(other.prompt is prompts.prompt for other in later):
        later = []  # switched to the same prompt: nothing changes
    prompts_by_step = [(0, prompts.prompt), *((other.step, other.prompt) for other in later)]
    substitution = Substitution(family, results) if later else None
    plan = CallPlan(prompts, planned, prompts_by_step, later, substitution)
    on_words = [intervention for intervention in interventions if isinstance(intervention, Weight | Drop)]
    for intervention in on_words:
        _check_word(intervention, plan)
    if family.attention_kind == "cross":
        for step in range(planned):
            drops = [drop for drop in on_words if isinstance(drop, Drop) and drop.acts_at(step)]
            _check_left(plan.prompt_at(step)[1], drops)
    return plan


def attention_work(prompt: PromptBatch, batch: int, rows: Rows, on_words: Sequence[Weight | Drop]) -> AttentionChange:
    """Collect what weights and drops change in the attention of an evaluation.

    Args:
        prompt: The prompt in force.
        batch: Rows of the denoiser's batch.
        rows: Those that carry the prompt, each with its image.
        on_words: The weights and drops that act.

    Returns:
        The changes, without a layout.
    """
    weights: list[tuple[list[list[int]], float]] = []
    dropped: list[set[int]] = [set() for _ in prompt.words]
    for intervention in on_words:
        positions = [_positions(words, intervention.word) for words in prompt.words]
        if isinstance(intervention, Weight):
            weights.append((positions, intervention.factor))
            continue
        for image, tokens in enumerate(positions):
            dropped[image].update(tokens)
    return AttentionChange(
        batch=batch,
        rows=rows,
        lengths=prompt.lengths,
        weights=weights,
        dropped=[sorted(tokens) for tokens in dropped] if any(dropped) else None,
        frozen=None,
        layout=None,
    )


def _check_word(intervention: Weight | Drop, plan: CallPlan) -> None:
    """Raise KeyError for a word that no prompt has while it is in force."""
    begin, end = intervention.step_range
    end = plan.planned if end is None else end
    first_error: KeyError | IndexError | None = None
    for step in range(begin, end):
        for words in plan.prompt_at(step)[1].words:
            try:
                pick_words(words, _selection(intervention.word))
            except (KeyError, IndexError) as error:
                first_error = first_error or error
            else:
                return
    if first_error is not None:
        raise first_error
    for words in plan.prompts.prompt.words:  # an empty range: the word must exist all the same
        pick_words(words, _selection(intervention.word))


def _check_left(prompt: PromptBatch, drops: Sequence[Drop]) -> None:
    """Raise ValueError where all text tokens of cross-attention would be dropped."""
    for words in prompt.words:
        dropped = {token for drop in drops for token in _positions(words, drop.word)}
        if dropped and all(word.kind == "padding" or dropped.issuperset(word.tokens) for word in words):
            raise ValueError("drop: every word of the prompt is dropped, and nothing is left to attend to: keep one")


def _positions(words: Sequence[Any], selector: WordSelector) -> list[int]:
    """Text tokens of a word; none in a prompt of the batch that does not have it."""
    try:
        indices = pick_words(words, _selection(selector))
    except (KeyError, IndexError):
        return []
    return sorted({token for index in indices for token in words[index].tokens})


def _selection(selector: WordSelector) -> Any:
    return list(selector) if isinstance(selector, tuple) else selector


def _check_range(intervention: Intervention, planned: int) -> None:
    begin, end = intervention.step_range
    if max(begin, end or 0) > planned:
        raise ValueError(f"{intervention!r}: this run has {planned} steps, counted from 0: use steps up to {planned}")
