"""Tests a model: features of the test splits, then the data set's protocols."""

from collections.abc import Mapping
from typing import Any

from sicl_jax import evaluation
from sicl_jax.data.dataset import ReidDataset, Split
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.methods.embedder import Embedder


class Tester:
    """Tests a model on a data set's test splits.

    Args:
        dataset: Prepared data.
        embedder: Makes the features.
        seed: Decides single-shot galleries.
    """

    def __init__(self, dataset: ReidDataset, embedder: Embedder, *, seed: int = 0):
        self.dataset = dataset
        self._embedder = embedder
        self._seed = seed
        self.splits = tuple(evaluation.required_splits(dataset.name, dataset.split_names))

    def features(self, state, progress: MakeBar = silent) -> dict[str, evaluation.FeatureSet]:
        """Features of every test split that the data set has.

        Raises:
            UserError: The features are of masks and a split has none.
        """
        return {
            name: self.feature_set(state, self.dataset.split(name), f"features of {name}", progress)
            for name in self.splits
        }

    def feature_set(
        self, state, split: Split, title: str, progress: MakeBar = silent
    ) -> evaluation.FeatureSet:
        """Features of one split with its labels."""
        if self._embedder.reads_masks and not split.all_have("mask"):
            raise UserError(
                f"{self.dataset.directory}: {title} of stream {self._embedder.stream!r} need masks "
                "and this split has none; prepare it with them, or use the stream 'rgb'"
            )
        with progress(len(split), title) as bar:
            masks = split.pixels["mask"] if self._embedder.reads_masks else None
            features = self._embedder(state, split.pixels["image"], masks, on_batch=bar.advance)
        return evaluation.FeatureSet(
            features,
            labels=split.labels,
            names=split.names,
        )

    def test(
        self, state, *, progress: MakeBar = silent, **options: Any
    ) -> dict[str, evaluation.Result]:
        """Results by protocol; `options` are those of `evaluation.evaluate_dataset`."""
        return self.results(self.features(state, progress), progress=progress, **options)

    def results(
        self,
        features: Mapping[str, evaluation.FeatureSet],
        *,
        progress: MakeBar = silent,
        **options: Any,
    ) -> dict[str, evaluation.Result]:
        """Results by protocol of features made before."""
        return evaluation.evaluate_dataset(
            self.dataset.name, features, seed=self._seed, progress=progress, **options
        )
