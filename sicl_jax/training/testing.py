"""Tests a model: features of the test splits, then the data set's protocols."""

from collections.abc import Callable

import jax
import numpy as np

from sicl_jax import devices, evaluation
from sicl_jax.data.dataset import ReidDataset, Split
from sicl_jax.models.extract import in_batches


class Tester:
    """Tests a model on a data set's test splits.

    Args:
        dataset: Prepared data.
        embed: Traceable (state, images (B, H, W, 3) uint8) -> (B, D) unit rows.
        batch_size: Images in a batch.
        seed: Decides single-shot galleries.
    """

    def __init__(
        self, dataset: ReidDataset, embed: Callable, *, batch_size: int = 256, seed: int = 0
    ):
        self.dataset = dataset
        self._embed = jax.jit(embed, out_shardings=devices.by_rows())
        self._batch_size = batch_size
        self._seed = seed
        self.protocol = evaluation.selection_protocol(dataset.name)
        self._splits = evaluation.required_splits(dataset.name)

    def features(self, state) -> dict[str, evaluation.FeatureSet]:
        """Features of every test split that the data set has."""
        return {
            name: self._feature_set(state, self.dataset.split(name))
            for name in self._splits
            if name in self.dataset.split_names
        }

    def _feature_set(self, state, split: Split) -> evaluation.FeatureSet:
        features = in_batches(
            lambda images: self._embed(state, images), split.images, batch_size=self._batch_size
        )
        return evaluation.FeatureSet(
            features=np.asarray(features, np.float32),
            identities=split.identities,
            cameras=split.cameras,
            clothes=split.clothes,
            tracklets=split.tracklets,
        )

    def test(self, state) -> dict[str, evaluation.Result]:
        """Results by protocol."""
        return evaluation.evaluate_dataset(self.dataset.name, self.features(state), seed=self._seed)
