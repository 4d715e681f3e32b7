"""Scores of road graphs, on drawn roads."""

import numpy as np
import pytest

from roads.metrics.graph_scores import Tracing, score_graph, trace_both


def test_gaps_are_joined_in_the_prediction_but_not_in_the_map() -> None:
    whole = np.zeros((60, 200), np.bool_)
    whole[28:35] = True
    broken = whole.copy()
    broken[:, 90:105] = False
    scores = {
        join: [
            score_graph(trace_both(one, other, Tracing(spur=20, tolerance=2, join=join)))
            for one, other in ((broken, whole), (whole, broken))
        ]
        for join in (0, 30)
    }
    assert scores[30][0].apls == pytest.approx(1, abs=0.01)
    assert scores[30][0].predicted_km == pytest.approx(scores[30][0].road_km, abs=0.001)
    assert scores[0][0].apls == pytest.approx(scores[0][1].apls)
    assert (scores[0][0].apls or 0) < 0.8
    assert scores[30][1] == scores[0][1]
