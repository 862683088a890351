"""Changing a run while it goes on, to see what follows: words made stronger, left out, exchanged at a step, or frozen.

    with dv.intervene.on(pipe, dv.intervene.weight("red", 2), dv.intervene.drop("square", steps=(0, 10))):
        pipe("a red circle above a blue square")

    dv.trace(pipe, "a red circle", interventions=[dv.intervene.switch("a blue circle", step=12)])

Weights and freezing follow A. Hertz et al., "Prompt-to-Prompt Image Editing with Cross Attention Control",
arXiv 2208.01626; exchanging the prompt at a step is its Fig. 4 turned into a measurement (`decision_curve`).
"""

from diffvis_widget.tracer import Intervention

from .decision_curves import DecisionCurve
from .decision_runs import decision_curve
from .engine import on
from .interventions import Drop, Freeze, Switch, Weight, drop, freeze, switch, weight

__all__ = [
    "DecisionCurve",
    "Drop",
    "Freeze",
    "Intervention",
    "Switch",
    "Weight",
    "decision_curve",
    "drop",
    "freeze",
    "on",
    "switch",
    "weight",
]
