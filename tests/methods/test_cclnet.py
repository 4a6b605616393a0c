"""CCLNet's pieces against brute force, and its prompts, samplers and exchange at the edges."""

import functools
import gzip
import pathlib

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sicl_jax import config as configs
from sicl_jax.data import samplers
from sicl_jax.errors import UsageError, UserError
from sicl_jax.methods.cclnet import losses, prompts
from sicl_jax.methods.cclnet.model import PromptShape
from sicl_jax.methods.cclnet.verify import CHECKS, SETTINGS
from sicl_jax.verify import verify_file

_GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "cclnet"

# ---- prompts -----------------------------------------------------------------------------------


@pytest.fixture
def merges(tmp_path):
    """A file of merges with which `photo`, `of` and `x` are one token each."""
    path = tmp_path / "merges.txt.gz"
    pairs = ["p h", "ph o", "t o</w>", "pho to</w>", "o f</w>"]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["a header", *pairs, ""]))
    return str(path)


def test_published_prompts_need_no_tokenizer(golden):
    case = golden("cclnet/model")
    for sentence, name in ((prompts.VISIBLE, "rgb"), (prompts.INFRARED, "ir")):
        ids, shape = prompts.token_ids(sentence, "", 77)
        np.testing.assert_array_equal(ids, case[f"token_ids_{name}"])
        assert shape == PromptShape(6, 4, 3)


def test_other_prompts_by_a_file_of_merges(merges):
    ids, shape = prompts.token_ids("Photo  of a X X é", merges, 20)
    letters = prompts._byte_letters()
    tokens = [
        *letters,
        *(f"{x}</w>" for x in letters),
        "ph",
        "pho",
        "to</w>",
        "photo</w>",
        "of</w>",
    ]
    first, second = map(chr, "é".encode())  # Both bytes are printable and keep their letter.
    words = ["photo</w>", "of</w>", "a</w>", "x</w>", "x</w>", first, f"{second}</w>"]
    start = len(tokens)
    wanted = [start, *map(tokens.index, words), start + 1]
    np.testing.assert_array_equal(ids, np.pad(wanted, (0, 20 - len(wanted))))
    assert shape == PromptShape(4, 2, 3)


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("a photo of X x x x x x x", "has 12 tokens, but the text encoder reads 10: shorten it"),
        ("a photo", "needs one run of words X"),
        ("X photo X", "needs one run of words X"),
    ],
)
def test_prompts_that_do_not_fit(merges, sentence, line):
    with pytest.raises(UsageError, match=line):
        prompts.token_ids(sentence, merges, 10)


def test_other_prompts_without_a_good_file(tmp_path):
    with pytest.raises(UsageError, match=r"--config\.prompts\.merges"):
        prompts.token_ids("a X", "", 77)
    with pytest.raises(UserError, match="nowhere: cannot be read: No such file"):
        prompts.token_ids("a X", str(tmp_path / "nowhere"), 77)
    (tmp_path / "text").write_text("a b\n")
    with pytest.raises(UserError, match="text: cannot be read: Not a gzipped file"):
        prompts.token_ids("a X", str(tmp_path / "text"), 77)
    (tmp_path / "short.gz").write_bytes(gzip.compress(b"header\na b\nc\n")[:-9])
    with pytest.raises(UserError, match="is not CLIP's gzipped file of merges"):
        prompts.token_ids("a X", str(tmp_path / "short.gz"), 77)


# ---- samplers ----------------------------------------------------------------------------------


def two_modalities(clusters, size=6, left_out=3):
    """Labels of two modalities with so many clusters each, and images that are left out."""
    labels = [np.concatenate([np.repeat(np.arange(n), size), [-1] * left_out]) for n in clusters]
    infrared = np.repeat([False, True], [len(part) for part in labels])
    return np.concatenate(labels), infrared


def test_cross_modality_batches():
    labels, infrared = two_modalities((7, 5))
    batches = samplers.draw_cross_modality(
        labels, infrared, num_clusters=3, num_instances=4, rng=np.random.default_rng(0)
    )
    assert batches.shape == (7 * 6 // 12 + 1, 24)
    for batch in batches:
        for half, is_infrared in ((batch[:12], False), (batch[12:], True)):
            assert (infrared[half] == is_infrared).all()
            groups = labels[half].reshape(3, 4)
            assert (groups == groups[:, :1]).all() and (groups >= 0).all()
            assert len(set(groups[:, 0])) == 3


def test_fewer_clusters_than_a_batch_has_fill_it_in_turn():
    labels, infrared = two_modalities((1, 3))
    batches = samplers.draw_cross_modality(
        labels, infrared, num_clusters=4, num_instances=2, rng=np.random.default_rng(0)
    )
    assert (labels[batches[:, :8]] == 0).all()
    for batch in labels[batches[:, 8:]].reshape(-1, 4, 2)[:, :, 0]:
        assert set(batch[:3]) == {0, 1, 2} and batch[3] == batch[0]


@pytest.mark.parametrize(("clusters", "name"), [((0, 2), "visible"), ((2, 0), "infrared")])
def test_a_modality_without_clusters_is_one_line(clusters, name):
    labels, infrared = two_modalities(clusters)
    with pytest.raises(UserError, match=f"none of the {name} training images is in a cluster"):
        samplers.draw_cross_modality(
            labels, infrared, num_clusters=2, num_instances=2, rng=np.random.default_rng(0)
        )


@pytest.mark.parametrize("more", [0, 3])
def test_pairs_of_modalities(more):
    visible, infrared = np.arange(4), np.arange(10, 18 + more)
    batches = samplers.draw_modality_pairs(
        visible, infrared, batch_size=4, rng=np.random.default_rng(0)
    )
    assert batches.shape == (2 + bool(more), 8)
    first, second = batches[:, :4].ravel(), batches[:, 4:].ravel()
    np.testing.assert_array_equal(np.sort(second[second >= 0]), infrared)
    np.testing.assert_array_equal(first < 0, second < 0)
    assert set(first[:4]) == set(visible) and set(first[first >= 0]) == set(visible)


# ---- the exchange ------------------------------------------------------------------------------


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def exchanged(visible, infrared, labels, scale, compat):
    """The loop of section 4 of `docs/methods/cclnet.md`, pair by pair."""
    visible, infrared = visible.copy(), infrared.copy()
    similarity = visible @ infrared.T
    for r, i in zip(*linear_sum_assignment(-similarity), strict=True):
        if similarity[r, i] < 0:
            continue
        before = visible[r].copy()
        if r in labels[0]:
            visible[r] = unit(scale * visible[r] + (1 - scale) * infrared[i])
        if i in labels[1]:
            seen = visible[r] if compat == "released" else before
            infrared[i] = unit(scale * infrared[i] + (1 - scale) * seen)
    return visible, infrared


@pytest.mark.parametrize("compat", ["released", "paper"])
@pytest.mark.parametrize("sizes", [(6, 6), (9, 4), (3, 8)])
def test_the_exchange_moves_matched_clusters_of_the_batch(sizes, compat):
    rng = np.random.default_rng(sum(sizes))
    memories = [unit(rng.normal(size=(size, 3))).astype(np.float32) for size in sizes]
    labels = [rng.integers(0, size, 4).astype(np.int32) for size in sizes]
    partners = losses.match(memories[0] @ memories[1].T)
    found = losses.exchange(*memories, partners, labels, 0.1, compat=compat)
    for ours, theirs in zip(found, exchanged(*memories, labels, 0.1, compat), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# ---- the published code's numbers --------------------------------------------------------------


def test_the_defaults_are_the_published_settings(golden):
    """`verify` takes a file's own."""
    config, case = configs.base("cclnet"), golden("cclnet/schedule")
    for field, name in SETTINGS.items():
        ours = functools.reduce(getattr, field.split("."), config)
        np.testing.assert_allclose(ours, case[f"config:{name}"], rtol=1e-6, err_msg=field)


@pytest.mark.parametrize("name", CHECKS)
def test_golden_numbers_agree(name):
    checks = verify_file(_GOLDEN / f"{name}.npz", CHECKS)
    assert checks
    assert [check for check in checks if not check.ok] == []
