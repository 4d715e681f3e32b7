"""Scores of road graphs, traced in the same way from a predicted mask and from a map."""

from collections.abc import Sequence
from dataclasses import dataclass

from roads.graph.tracing import trace_mask
from roads.metrics.apls import apls
from roads.metrics.bootstrap import mean_interval
from roads.runtime.arrays import Bool

METRES = (1.0, 1.0)  # height and width of a pixel in the Massachusetts Roads Dataset


@dataclass(frozen=True)
class Tracing:
    """How roads are traced: the `spur` and `tolerance` of `trace_roads`, both in metres."""

    spur: float
    tolerance: float


@dataclass(frozen=True)
class GraphScore:
    """APLS of a tile's two graphs, and the kilometres of each."""

    apls: float
    predicted_km: float
    road_km: float


def score_graph(predicted: Bool, road: Bool, tracing: Tracing) -> GraphScore:
    """Trace both maps, (height, width) bool, and compare their graphs."""
    graphs = [trace_mask(mask, metres=METRES, **vars(tracing)) for mask in (predicted, road)]
    kilometres = (sum(edge.length for edge in graph.edges) / 1000 for graph in graphs)
    return GraphScore(apls(*graphs, metres=METRES), *kilometres)


def graph_metrics(tiles: Sequence[GraphScore]) -> dict[str, float]:
    """The mean APLS over one or more tiles with its interval, and all kilometres, rounded."""
    values = [tile.apls for tile in tiles]
    low, high = mean_interval(values)
    return {
        "apls": round(sum(values) / len(values), 6),
        "apls_95_low": round(low, 6),
        "apls_95_high": round(high, 6),
        "road_km_map": round(sum(tile.road_km for tile in tiles), 3),
        "road_km_predicted": round(sum(tile.predicted_km for tile in tiles), 3),
    }
