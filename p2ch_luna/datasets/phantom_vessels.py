"""Branching vessels and bronchi that fill the synthetic lungs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from p2ch_luna.datasets.phantom_anatomy import Chest
from p2ch_luna.datasets.phantom_tubes import Points, Tubes, join, spline, tubes_between

TIP_RADIUS_MM = 0.45
_MURRAY = 2.55  # r^m of a vessel is the sum of its branches' r^m
_GRID_MM = 8.0  # between the ends of one tree's twigs
_DETOUR = 0.3  # 0: the shortest tree; larger: straighter ways from the root
_STEPS = 2  # straight pieces for one curved branch
_ROOTS = {  # canonical x, y, z of the stems in the right lung; mirrored and shifted in the left
    "artery": ((-34.0, 3.0, 20.0), (38.0, 9.0, 27.0)),
    "vein": ((-24.0, 2.0, -3.0), (26.0, 8.0, -5.0)),
}


@dataclass(frozen=True, eq=False)
class Tree:
    """A rooted tree in space; node 0 is the root and its own parent, parents come before children.

    xyz: (N, 3) mm.    parent: (N,).    radius: (N,) mm of the branch that ends at the node.
    heir: (N,) the widest child, or the node itself at a tip.
    """

    xyz: Points
    parent: NDArray[np.int64]
    radius: NDArray[np.float64]
    heir: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LungTubes:
    """What branches in the lungs."""

    vessels: Tubes
    bronchi: Tubes  # the air in them


def lung_tubes(chest: Chest, rng: np.random.Generator) -> LungTubes:
    """Grow an artery tree, a vein tree and bronchi along the arteries, in both lungs."""
    vessels, bronchi = [], []
    for kind, roots in _ROOTS.items():
        for root in roots:
            tree = _grow(_twig_ends(chest, rng, right=root[0] < 0), chest.place(root))
            vessels.append(_branches(tree))
            if kind == "artery":
                bronchi.append(_bronchi(tree))
    return LungTubes(join(vessels), join(bronchi))


def _twig_ends(chest: Chest, rng: np.random.Generator, *, right: bool) -> Points:
    """(M, 3) points spread through one lung, away from its surface and from the fissures."""
    axes = [np.arange(-150.0, 150.0, _GRID_MM)] * 3
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    points = grid + rng.uniform(-0.5, 0.5, grid.shape) * _GRID_MM
    fields = chest.fields(points)
    oblique, level = chest.fissures(fields.x, fields.y, fields.z)
    free = np.minimum(np.abs(oblique), np.abs(level)) > 3.5
    ends: Points = points[(fields.lung < -2.5) & free & ((fields.x < 0) == right)]
    return ends


def _grow(ends: Points, root: Points) -> Tree:
    """Join the ends to the root one by one, each where its way to the root is short and little is added."""
    xyz = np.vstack([root, ends])
    x, y, z = np.ascontiguousarray(xyz.T)
    n = len(xyz)
    parent, order = np.zeros(n, np.int64), np.zeros(n, np.int64)
    length = np.zeros(n)
    cost = np.linalg.norm(xyz - root, axis=1)
    cost[0] = np.inf
    waiting = cost < np.inf
    for step in range(1, n):
        new = int(cost.argmin())
        order[step] = new
        length[new] = length[parent[new]] + math.dist(xyz[new], xyz[parent[new]])
        cost[new], waiting[new] = np.inf, False
        offer = np.sqrt((x - x[new]) ** 2 + (y - y[new]) ** 2 + (z - z[new]) ** 2) + _DETOUR * length[new]
        better = (offer < cost) & waiting
        np.copyto(cost, offer, where=better)
        parent[better] = new
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return _with_radii(xyz[order], rank[parent[order]])


def _with_radii(xyz: Points, parent: NDArray[np.int64]) -> Tree:
    """Radii by Murray's law from the tips down; wide branches are then straightened."""
    n = len(xyz)
    flow = np.zeros(n)
    heir, widest = np.arange(n), np.zeros(n)
    for node in range(n - 1, 0, -1):
        flow[node] = flow[node] or 1.0
        flow[parent[node]] += flow[node]
        if flow[node] > widest[parent[node]]:
            heir[parent[node]], widest[parent[node]] = node, flow[node]
    radius = np.minimum(TIP_RADIUS_MM * flow ** (1 / _MURRAY), 6.5)
    inner = np.flatnonzero((heir != np.arange(n)) & (np.arange(n) > 0))
    stiffness = np.clip(0.25 + 0.3 * radius[inner], 0, 0.85)[:, None]
    for _ in range(4):
        xyz[inner] += stiffness * (0.5 * (xyz[parent[inner]] + xyz[heir[inner]]) - xyz[inner])
    return Tree(xyz, parent, radius, heir)


def _curves(tree: Tree, nodes: NDArray[np.int64], shift: Points) -> Points:
    """(steps + 1, n, 3) points along the branches that end at `nodes`; shift: (N, 3) added to all nodes."""
    xyz = tree.xyz + shift
    a = tree.parent[nodes]
    before, after = xyz[tree.parent[a]], xyz[tree.heir[nodes]]
    return np.stack([spline(before, xyz[a], xyz[nodes], after, t) for t in np.linspace(0, 1, _STEPS + 1)])


def _branches(tree: Tree) -> Tubes:
    """The tree as tubes; each branch starts a little wider than it ends."""
    nodes = np.arange(1, len(tree.xyz))
    curve = _curves(tree, nodes, np.zeros(3))
    end = tree.radius[nodes]
    start = np.minimum(tree.radius[tree.parent[nodes]], 1.2 * end)
    radius = [start + (end - start) * t for t in np.linspace(0, 1, _STEPS + 1)]
    ends = pairwise(zip(curve, radius, strict=True))
    return join([tubes_between(a, b, radius_a, radius_b) for (a, radius_a), (b, radius_b) in ends])


def _bronchi(tree: Tree) -> Tubes:
    """Airways beside the arteries, as wide as these, as far as they can be seen."""
    along = tree.xyz - tree.xyz[tree.parent]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    beside = np.array([0.3, 0.8, 0.5]) - (along @ [0.3, 0.8, 0.5])[:, None] * along
    beside /= np.maximum(np.linalg.norm(beside, axis=1, keepdims=True), 0.3)
    lumen = np.minimum(0.75 * tree.radius, 3.6)
    shift = beside * (tree.radius + 1.35 * lumen + 0.4)[:, None]
    nodes = np.flatnonzero((tree.radius > 1.6) & (np.arange(len(tree.xyz)) > 0))
    curve = _curves(tree, nodes, shift)
    return join([tubes_between(a, b, lumen[nodes], lumen[nodes]) for a, b in pairwise(curve)])
