"""Tests a model: features of the test splits, then the data set's protocols."""

import pathlib
from collections.abc import Mapping
from typing import Any

from sicl_jax import evaluation
from sicl_jax.data.dataset import ReidDataset, Split, load_dataset
from sicl_jax.errors import UserError
from sicl_jax.evaluation.progress import MakeBar, silent
from sicl_jax.inference import Model
from sicl_jax.methods.embedder import Embedder, columns_of
from sicl_jax.methods.state import Weights


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

    def features(
        self, weights: Weights, progress: MakeBar = silent
    ) -> dict[str, evaluation.FeatureSet]:
        """Features of every test split that the data set has.

        Raises:
            UserError: The stream reads pictures that images of a split lack.
        """
        return {
            name: self.feature_set(
                weights, self.dataset.split(name), f"features of {name}", progress
            )
            for name in self.splits
        }

    def feature_set(
        self, weights: Weights, split: Split, title: str, progress: MakeBar = silent
    ) -> evaluation.FeatureSet:
        """Features of one split with its labels."""
        self._check(split, title)
        with progress(len(split), title) as bar:
            columns = columns_of(split, self._embedder.reads)
            features = self._embedder(weights, columns, on_batch=bar.advance)
        return evaluation.FeatureSet(
            features,
            labels=split.labels,
            names=split.names,
            similarity=self._embedder.similarity,
        )

    def _check(self, split: Split, title: str) -> None:
        for column in self._embedder.reads:
            is_optional = f"has_{column}" in self._embedder.reads
            if column in split.pixels and not is_optional and not split.all_have(column):
                raise UserError(
                    f"{self.dataset.directory}: {title} of stream {self._embedder.stream!r} read "
                    f"the column {column!r}, which images of this split lack; prepare it with "
                    f"--{column}s, or choose another stream"
                )

    def test(
        self, weights: Weights, *, progress: MakeBar = silent, **options: Any
    ) -> dict[str, evaluation.Result]:
        """Results by protocol; `options` are those of `evaluation.evaluate_dataset`."""
        return self.results(self.features(weights, progress), progress=progress, **options)

    def results(
        self,
        features: Mapping[str, evaluation.FeatureSet],
        *,
        progress: MakeBar = silent,
        **options: Any,
    ) -> dict[str, evaluation.Result]:
        """Results by protocol of features made before."""
        return evaluation.evaluate_dataset(
            self.dataset.name,
            features,
            seed=self._seed,
            changing_identities=self.dataset.changing_identities,
            progress=progress,
            **options,
        )


def test_on(
    model: Model,
    name: str | None = None,
    *,
    data_dir: pathlib.Path | None = None,
    stream: str | None = None,
    flip: bool | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    progress: MakeBar = silent,
    **options: Any,
) -> tuple[dict[str, Any], dict[str, evaluation.Result]]:
    """Tests a trained model on a prepared data set, the one trained on or another.

    Args:
        model: The model of a run.
        name: The data set; that of its config if None.
        data_dir: Where it was prepared; the config says so if None.
        stream: As for `Model.embedder`, like `flip` and `batch_size`.
        flip: See there.
        batch_size: See there.
        seed: Decides drawn galleries; the config's if None.
        progress: Makes progress bars.
        **options: Of `evaluation.evaluate_dataset`.

    Returns:
        What was tested, for the record; results by protocol.

    Raises:
        UserError: The data set is missing, damaged or has no test splits; or the model reads
            pictures that it lacks.
    """
    config = model.config
    name, seed = name or config.data.name, config.seed if seed is None else seed
    dataset = load_dataset(name, data_dir or config.data.dir, forms=model.method.forms)
    embedder = model.embedder(stream, flip, batch_size)
    tester = Tester(dataset, embedder, seed=seed)
    if not tester.splits:
        raise UserError(
            f"{dataset.directory}: {name} has no test splits; prepare it from folders `train`, "
            "`query` and `gallery` (docs/data.md), or name another --dataset"
        )
    results = tester.test(model.weights, progress=progress, **options)
    about = {
        **model.about(),
        "dataset": name,
        "fingerprint": dataset.fingerprint,
        "stream": embedder.stream,
        "flip": embedder.flip,
        "reranked": options.get("reranking") is not None,
        "seed": seed,
    }
    return about, results
