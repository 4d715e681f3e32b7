"""Scores of road graphs: those of a predicted mask and of a map's road, traced the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

from roads.graph.tracing import RoadGraph, trace_mask
from roads.metrics.apls import apls
from roads.metrics.bootstrap import mean_interval
from roads.runtime.arrays import Bool

METRES = (1.0, 1.0)  # of a row and of a column, in the Massachusetts Roads Dataset


@dataclass(frozen=True)
class Tracing:
    """How roads are traced: spurs pruned and lines simplified, both in metres."""

    spur: float
    tolerance: float


@dataclass(frozen=True)
class GraphScore:
    """APLS of a tile's graphs, and the kilometres of either."""

    apls: float
    predicted_km: float
    road_km: float


def score_graph(predicted: Bool, road: Bool, tracing: Tracing) -> GraphScore:
    """Trace both maps, (height, width) bool, and compare their graphs."""
    predicted_graph, road_graph = (
        trace_mask(mask, metres=METRES, spur=tracing.spur, tolerance=tracing.tolerance)
        for mask in (predicted, road)
    )
    score = apls(road_graph, predicted_graph, metres=METRES)
    return GraphScore(score, _kilometres(predicted_graph), _kilometres(road_graph))


def _kilometres(graph: RoadGraph) -> float:
    return sum(edge.length for edge in graph.edges) / 1000


def graph_metrics(tiles: Sequence[GraphScore]) -> dict[str, float]:
    """The mean APLS over at least one tile with its interval, and all kilometres, rounded."""
    values = [tile.apls for tile in tiles]
    low, high = mean_interval(values)
    return {
        "apls": round(sum(values) / len(values), 6),
        "apls_95_low": round(low, 6),
        "apls_95_high": round(high, 6),
        "road_km_map": round(sum(tile.road_km for tile in tiles), 3),
        "road_km_predicted": round(sum(tile.predicted_km for tile in tiles), 3),
    }
