"""Scores of road graphs, traced from a predicted mask and from a map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import shapely

from roads.graph.matching import WITHIN, Match, match_maps
from roads.graph.tracing import RoadGraph, trace_mask
from roads.metrics.apls import STRAIGHT, apls
from roads.metrics.bootstrap import mean_interval
from roads.metrics.counts import mean, rounded
from roads.runtime.arrays import Bool

METRES = (1.0, 1.0)  # height and width of a pixel in the Massachusetts Roads Dataset


@dataclass(frozen=True)
class Tracing:
    """Parameters of tracing: `spur`, `tolerance` and `join` of `trace_roads`, in metres."""

    spur: float
    tolerance: float
    join: float


@dataclass(frozen=True)
class GraphScore:
    """APLS of a tile's two graphs, None if both are empty, and their lengths in kilometres.

    Attributes:
        apls: with control points on every edge.
        apls_bent: with control points on bent edges only, as in CosmiQ's code.
        predicted_km, road_km: lengths of the two graphs.
    """

    apls: float | None
    apls_bent: float | None
    predicted_km: float
    road_km: float


Graphs = tuple[RoadGraph, RoadGraph]  # of the prediction, and of the map


def trace_both(predicted: Bool, road: Bool, tracing: Tracing) -> Graphs:
    """Trace both maps, (height, width) bool.

    Gaps are joined in the prediction only; those in the map are real.
    """
    return (
        trace_mask(predicted, metres=METRES, **vars(tracing)),
        trace_mask(road, metres=METRES, **vars(replace(tracing, join=0))),
    )


def match_graphs(graphs: Graphs) -> Match:
    """Which roads of one graph the other has; x is the row in metres, y the column."""
    predicted, label = (
        [shapely.LineString(edge.line * METRES) for edge in graph.edges] for graph in graphs
    )
    return match_maps(predicted, label, WITHIN)


def score_graph(graphs: Graphs) -> GraphScore:
    """Compare the graphs of a tile."""
    kilometres = (sum(edge.length for edge in graph.edges) / 1000 for graph in graphs)
    roads = any(graph.edges for graph in graphs)
    every, bent = (
        apls(*graphs, metres=METRES, straight=straight) if roads else None
        for straight in (None, STRAIGHT)
    )
    return GraphScore(every, bent, *kilometres)


def graph_metrics(tiles: Sequence[GraphScore]) -> dict[str, float | None]:
    """The mean APLS over tiles with roads, its interval, and total kilometres, rounded."""
    values, bent = (
        [score for tile in tiles if (score := getattr(tile, name)) is not None]
        for name in ("apls", "apls_bent")
    )
    low, high = mean_interval(values) if values else (None, None)
    return {
        "apls": rounded(mean(values)),
        "apls_95_low": rounded(low),
        "apls_95_high": rounded(high),
        "apls_bent": rounded(mean(bent)),
        "road_km_map": round(sum(tile.road_km for tile in tiles), 3),
        "road_km_predicted": round(sum(tile.predicted_km for tile in tiles), 3),
    }
