"""What protocols refuse: slips of a caller, and queries that nothing can be found for."""

import numpy as np
import pytest
from sides import identities, images, relabel, splits

from sicl_jax.errors import UsageError, UserError
from sicl_jax.evaluation import (
    Reranking,
    evaluate_dataset,
    primary_protocol,
)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: evaluate_dataset("ltcc", splits("ltcc"), only=[]), UsageError, "is asked for"),
        (lambda: evaluate_dataset("ltcc", {}), UsageError, "has no test splits; prepare it with"),
        (
            lambda: evaluate_dataset("ltcc", splits("ltcc"), only=["cloth"]),
            UsageError,
            "no protocol 'cloth'",
        ),
        (
            lambda: evaluate_dataset(
                "prcc", {"gallery": splits("prcc")["gallery"]}, only=["cloth_changing/all"]
            ),
            UsageError,
            "needs features of query_changed",
        ),
        (lambda: evaluate_dataset("prcc", splits("prcc"), draws=2), UsageError, "draws = 2"),
        (lambda: primary_protocol("prcc", ["standard"]), UsageError, "no protocol among"),
        (lambda: Reranking(k1=0), UsageError, "k1 = 0"),
        (lambda: Reranking(weight=2.0), UsageError, "weight"),
        (
            lambda: evaluate_dataset("prcc", splits("prcc"), bootstrap=1),
            UsageError,
            "bootstrap of 1",
        ),
    ],
)
def test_what_a_caller_may_get_wrong(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def strangers(side):
    return relabel(side, identity=identities(side) + 100)


@pytest.mark.parametrize("dataset", ["prcc", "ltcc", "person_folder"])
def test_nobody_to_be_found(dataset):
    given = splits(dataset)
    with pytest.raises(UserError, match=f"{dataset}, .*all .* queries were skipped"):
        evaluate_dataset(dataset, given | {"gallery": strangers(given["gallery"])})


def test_no_protocol_left():
    given = splits("person_folder")
    given["gallery"] = strangers(given["gallery"])
    with pytest.raises(UserError, match="no protocol could be run"):
        evaluate_dataset("person_folder", given, only=["cloth_changing", "same_clothes"])


@pytest.mark.parametrize("reranking", [None, Reranking()])
def test_nobody_at_all(reranking):
    nobody = images(np.random.default_rng(0), 0)
    everybody = splits("celeb_reid")
    for given in (
        everybody | {"gallery": nobody},
        everybody | {"query": nobody},
        {"query": nobody, "gallery": nobody},
    ):
        with pytest.raises(UserError, match="celeb_reid, standard: .* queries"):
            evaluate_dataset("celeb_reid", given, reranking=reranking)


def test_no_query_of_the_cameras():
    given = {
        name: relabel(side, camera=np.ones(60, int)) for name, side in splits("vc_clothes").items()
    }
    with pytest.raises(UserError, match="vc_clothes, cloth_changing: there are no queries"):
        evaluate_dataset("vc_clothes", given)


@pytest.mark.parametrize(("dataset", "label"), [("ltcc", "clothes"), ("deepchange", "tracklet")])
def test_labels_that_a_protocol_needs(dataset, label):
    given = {
        name: relabel(side, **{label: np.full(60, -1)}) for name, side in splits(dataset).items()
    }
    with pytest.raises(UserError, match=f"label {label} of 120 images is unknown"):
        evaluate_dataset(dataset, given)
