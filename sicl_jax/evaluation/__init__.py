"""Test of features: distances, rankings, and the protocols of each data set.

results = evaluate_dataset("prcc", {"query_changed": FeatureSet(...), "gallery": ...})
results[primary_protocol("prcc")].rank1
"""

from sicl_jax.evaluation.bootstrap import with_intervals
from sicl_jax.evaluation.evaluate import clothes_changing_identities, evaluate_dataset
from sicl_jax.evaluation.features import UNKNOWN, FeatureSet
from sicl_jax.evaluation.metrics import METRICS, Result
from sicl_jax.evaluation.protocols import (
    primary_protocol,
    protocols,
    required_splits,
    selection_protocol,
)
from sicl_jax.evaluation.reranking import Reranking

__all__ = [
    "METRICS",
    "UNKNOWN",
    "FeatureSet",
    "Reranking",
    "Result",
    "clothes_changing_identities",
    "evaluate_dataset",
    "primary_protocol",
    "protocols",
    "required_splits",
    "selection_protocol",
    "with_intervals",
]
