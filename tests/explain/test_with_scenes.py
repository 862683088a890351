"""The tools on the scenes model: they run as a user runs them, and what they find holds together."""

from __future__ import annotations

import numpy as np

import diffvis_widget as dv


def test_a_run_is_explained() -> None:
    pipe = dv.load()
    relevance = dv.explain.relevance(
        pipe, "a red circle above a blue square", seed=7, num_inference_steps=3, progress=False
    )
    trace = relevance.trace
    texts = [word.text for word in trace.words]
    assert relevance.raw.shape == (3, len(texts))
    # a word of the scene says more than an article
    assert relevance.scores[texts.index("square")] > relevance.scores[texts.index("a", texts.index("above"))]
    rise = dv.explain.df_rise(trace, 1, masks=40, coverage="actual", progress=False)
    cam = dv.explain.df_cam(trace, 1)
    assert rise.map.shape == cam.map.shape == (12, 12)
    assert rise.stderr is not None
    # other masks find the same
    again = dv.explain.df_rise(trace, 1, masks=40, coverage="actual", seed=1, progress=False)
    assert np.corrcoef(rise.map.ravel(), again.map.ravel())[0, 1] > 0.5
    result = dv.explain.games(trace, 1, {"df_rise": rise, "df_cam": cam}, target="prediction", progress=False)
    assert set(result.deletion) == {"random", "centre", "edge", "df_rise", "df_cam"}
    for areas in (result.deletion_auc, result.insertion_auc):
        assert all(0 < value < 2 for value in areas.values())
