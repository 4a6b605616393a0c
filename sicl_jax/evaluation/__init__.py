"""Tests of features: distances, rankings, and the protocols of each data set.

results = evaluate_dataset("prcc", {"query_changed": FeatureSet(...), "gallery": ...})
results[primary_protocol("prcc")].rank1
"""

from sicl_jax.evaluation.bootstrap import with_intervals
from sicl_jax.evaluation.evaluate import clothes_changing_identities, evaluate_dataset
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.metrics import METRICS, Result, by_camera
from sicl_jax.evaluation.protocols import (
    Draw,
    Protocol,
    Protocols,
    Selection,
    Side,
    primary_protocol,
    protocols,
    register_protocols,
    required_splits,
    selection_protocol,
    selects_on_test,
)
from sicl_jax.evaluation.reranking import Reranking

__all__ = [
    "METRICS",
    "UNKNOWN",
    "Draw",
    "FeatureSet",
    "Protocol",
    "Protocols",
    "Reranking",
    "Result",
    "Selection",
    "Side",
    "by_camera",
    "clothes_changing_identities",
    "evaluate_dataset",
    "primary_protocol",
    "protocols",
    "register_protocols",
    "required_splits",
    "selection_protocol",
    "selects_on_test",
    "with_intervals",
]
