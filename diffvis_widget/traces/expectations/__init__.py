"""What a note expects of a run, as data: written as a short sentence, checked in Python and in the page alike."""

from .conditions import Comparison, Condition, PromptCondition, Quantity, ScheduleCondition
from .evaluation import Outcome, RunFacts, evaluate
from .parser import Expectation, parse_expectation
from .trace_facts import TracedRun, TraceFacts, word_weights

__all__ = [
    "Comparison",
    "Condition",
    "Expectation",
    "Outcome",
    "PromptCondition",
    "Quantity",
    "RunFacts",
    "ScheduleCondition",
    "TraceFacts",
    "TracedRun",
    "evaluate",
    "parse_expectation",
    "word_weights",
]
