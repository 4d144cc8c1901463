"""Kernels as products of smaller ones: decompositions and their ranks.

A *decomposition* turns a kernel into factors; a *rank rule* reads a rank off
its singular values; a *budget* shares parameters or operations out among
kernels. All are plain NumPy.
"""

from __future__ import annotations

from keras_squeeze.low_rank import budget, decompositions, rank_rules
from keras_squeeze.low_rank.bonds import map_factors, map_moments
from keras_squeeze.low_rank.budget import choose_within_budget
from keras_squeeze.low_rank.channel_svd import ChannelSVD
from keras_squeeze.low_rank.choosing import choose
from keras_squeeze.low_rank.cp import CP
from keras_squeeze.low_rank.decomposition import Decomposition
from keras_squeeze.low_rank.energy import Energy
from keras_squeeze.low_rank.fixed_rank import FixedRank
from keras_squeeze.low_rank.gavish_donoho import GavishDonoho
from keras_squeeze.low_rank.kernel_info import Choice, KernelInfo, Skip
from keras_squeeze.low_rank.marchenko_pastur import MarchenkoPastur
from keras_squeeze.low_rank.rank_fraction import RankFraction
from keras_squeeze.low_rank.rank_rules import RankRule
from keras_squeeze.low_rank.spatial_svd import SpatialSVD
from keras_squeeze.low_rank.svd import SVD
from keras_squeeze.low_rank.truncated_svd import singular_values, truncated_svd
from keras_squeeze.low_rank.tucker2 import Tucker2
from keras_squeeze.low_rank.vbmf import VBMF

decompositions.registry.register("svd", SVD)
decompositions.registry.register("channel_svd", ChannelSVD)
decompositions.registry.register("spatial_svd", SpatialSVD)
decompositions.registry.register("tucker2", Tucker2)
decompositions.registry.register("cp", CP)

rank_rules.registry.register("fixed", FixedRank)
rank_rules.registry.register("fixed_rank", FixedRank)
rank_rules.registry.register("fraction", RankFraction)
rank_rules.registry.register("rank_fraction", RankFraction)
rank_rules.registry.register("energy", Energy)
rank_rules.registry.register("vbmf", VBMF)
rank_rules.registry.register("gavish_donoho", GavishDonoho)
rank_rules.registry.register("marchenko_pastur", MarchenkoPastur)

__all__ = [
    "CP",
    "SVD",
    "VBMF",
    "ChannelSVD",
    "Choice",
    "Decomposition",
    "Energy",
    "FixedRank",
    "GavishDonoho",
    "KernelInfo",
    "MarchenkoPastur",
    "RankFraction",
    "RankRule",
    "Skip",
    "SpatialSVD",
    "Tucker2",
    "budget",
    "choose",
    "choose_within_budget",
    "decompositions",
    "map_factors",
    "map_moments",
    "rank_rules",
    "singular_values",
    "truncated_svd",
]
