"""Edges of a road graph as sequences of chains: joined, pruned of spurs, cleaned of specks."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from roads.graph.chains import Chains
from roads.graph.paths import join_links, run_sums, take_rows
from roads.runtime.arrays import Bool, Float64, Int64


@dataclass(frozen=True)
class Edges:
    """Edges as sequences of chains.

    Attributes:
        nodes, chains: how many there are of each.
        start, end: (n,) int64 nodes.
        length, steps, weight: (n,), sums over their chains.
        offsets: (n + 1,) int64, where in `path` the edges begin and end.
        path: chains; a number from the count of chains on is one taken backward.
    """

    nodes: int
    chains: int
    start: Int64
    end: Int64
    length: Float64
    steps: Int64
    weight: Float64
    offsets: Int64
    path: Int64

    def degree(self) -> Int64:
        """How many ends of edges meet at each node."""
        return np.bincount(np.concatenate([self.start, self.end]), minlength=self.nodes)

    def parts(self) -> NDArray[np.int32]:
        """For each node the part of the graph it belongs to: what hangs together."""
        pairs = (np.ones(len(self.start), np.bool_), (self.start, self.end))
        graph = sparse.coo_array(pairs, (self.nodes, self.nodes))
        number: NDArray[np.int32] = csgraph.connected_components(graph, directed=False)[1]
        return number

    def pick(self, rows: NDArray, backward: Bool | None = None) -> Self:
        """Some edges in the given order, some of them turned around."""
        turned = np.zeros(len(rows), np.bool_) if backward is None else backward
        places, offsets = take_rows(self.offsets, rows, turned)
        path = self.path[places]
        path[np.repeat(turned, np.diff(offsets))] += self.chains
        return replace(
            self,
            start=np.where(turned, self.end[rows], self.start[rows]),
            end=np.where(turned, self.start[rows], self.end[rows]),
            length=self.length[rows],
            steps=self.steps[rows],
            weight=self.weight[rows],
            offsets=offsets,
            path=path % (2 * self.chains) if self.chains else path,
        )


def edges_of_chains(chains: Chains, nodes: int) -> Edges:
    """Each chain as an edge."""
    count = len(chains.start)
    return Edges(
        nodes=nodes,
        chains=count,
        start=chains.start,
        end=chains.end,
        length=chains.length,
        steps=chains.steps,
        weight=chains.weight,
        offsets=np.arange(count + 1),
        path=np.arange(count),
    )


def join_edges(edges: Edges) -> Edges:
    """Make one edge of those that only meet each other at a node."""
    count = len(edges.start)
    order, offsets = join_links(edges.start, edges.end, edges.degree() == 2)
    turned = edges.pick(order % max(1, count), order >= count)
    return replace(
        edges,
        start=turned.start[offsets[:-1]],
        end=turned.end[offsets[1:] - 1],
        length=run_sums(turned.length, offsets),
        steps=run_sums(turned.steps, offsets),
        weight=run_sums(turned.weight, offsets),
        offsets=turned.offsets[offsets],
        path=turned.path,
    )


def prune_spurs(edges: Edges, spur: float) -> Edges:
    """Drop each crossing's shortest dead end, join what is left of the crossing, and repeat.

    Args:
        edges: joined.
        spur: metres; dead ends of this length stay.
    """
    while True:
        degree = edges.degree()
        start_is_tip = degree[edges.start] == 1
        tip = np.where(start_is_tip, edges.start, edges.end)
        root = np.where(start_is_tip, edges.end, edges.start)
        short = (degree[tip] == 1) & (degree[root] > 2) & (edges.length < spur)
        spurs = np.flatnonzero(short)
        if spurs.size == 0:
            return edges
        spurs = spurs[np.lexsort((tip[spurs], edges.length[spurs].round(6), root[spurs]))]
        _, first = np.unique(root[spurs], return_index=True)
        edges = join_edges(edges.pick(np.delete(np.arange(len(short)), spurs[first])))


def drop_specks(edges: Edges, least: float) -> Edges:
    """Drop what hangs together with less than so many metres of road."""
    part = edges.parts()[edges.start]
    total = np.bincount(part, edges.length, minlength=edges.nodes)
    return edges.pick(np.flatnonzero(total[part] >= least))


def sort_edges(edges: Edges) -> Edges:
    """Turn each edge to start at its smaller node, and sort by nodes and length."""
    edges = edges.pick(np.arange(len(edges.start)), edges.start > edges.end)
    return edges.pick(np.lexsort((edges.length.round(6), edges.end, edges.start)))
