"""The index in Milvus, against Milvus Lite: the same answers as faiss, and as brute force."""

import numpy as np
import pytest
from test_serve_load import entries, unit_rows

from sicl_jax.errors import UsageError, UserError
from sicl_jax.retrieval import build, stores
from sicl_jax.retrieval.facts import Where
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex
from sicl_jax.retrieval.searching import search

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

MODEL = {"workdir": "runs/demo", "step": 7, "epoch": 1, "model": "0123456789abcdef"}


@pytest.fixture
def address(tmp_path) -> str:
    return f"milvus://{tmp_path}/rows.db/crops"


def test_it_answers_as_faiss_does(model, crops, made_index, address):
    changes = build.add_folder(model, crops, address, portion=10)
    assert (changes.added, changes.kept) == (24, 0)
    assert build.add_folder(model, crops, address).added == 0
    flat, milvus = GalleryIndex.open(made_index), stores.open_index(address)
    assert len(milvus) == 24 and set(milvus.entries) == set(flat.entries)
    assert milvus.model == flat.model and milvus.view == flat.view
    for where in (
        Where(),
        Where(cameras=frozenset({"cam2"})),
        Where(folders=frozenset({str(crops)})),
        Where(folders=frozenset({str(crops / "cam1")}), since=1773302400.0),
        Where(until=0.0),
        Where(modalities=frozenset({"infrared"})),
    ):
        wanted, found = (search(i, model, crops, top=30, where=where) for i in (flat, milvus))
        for a, b in zip(wanted, found, strict=True):
            assert {hit.path for hit in a.hits} == {hit.path for hit in b.hits}
            np.testing.assert_allclose(
                [h.similarity for h in a.hits], [h.similarity for h in b.hits], atol=1e-5
            )
    assert build.remove(address, ("cam1/*",)).removed == 12
    assert len(stores.open_index(address)) == 12


def test_another_model_is_refused(model, crops, address):
    stores.create(address, MODEL, View("rgb", False), 8, None).add(entries(3), unit_rows(3, 8))
    with pytest.raises(UserError, match="made with another model"):
        build.add_folder(model, crops, address)
    assert stores.open_index(address).model == MODEL


def test_names_cannot_become_filters(address):
    index = stores.create(address, MODEL, View("rgb", False), 8, "{camera}/*")
    cruel = ['a" or path != "', "b' or 1==1", "c\\", "d%_", "é", '"]) or (time > 0']
    paths = [f"/x/{name}/1.jpg" for name in cruel]
    index.add([Entry(path, 1, 2**60) for path in paths], unit_rows(len(paths), 8))
    for name, path in zip(cruel, paths, strict=True):
        for where in (Where(frozenset({name})), Where(folders=frozenset({f"/x/{name}"}))):
            (hits,) = index.find(unit_rows(1, 8), 10, where=where)
            assert [hit.path for hit in hits] == [path]


def test_what_is_wrong_is_told_in_a_line(sicl, address, tmp_path):
    for bad in ("milvus://", "milvus://host", "milvus://host:1:2/a", "milvus://host/a-b"):
        with pytest.raises(UsageError, match="give milvus://HOST"):
            stores.open_index(bad)
    code, _, error = sicl("search", "--index", address, "--query", tmp_path)
    assert code == 1 and "no images here" in error and error.count("\n") == 1
    code, _, error = sicl("serve", "--index", address)
    assert code == 2 and "a server needs an index in a folder" in error and error.count("\n") == 1


@pytest.fixture
def sicl(capsys):
    """Runs the command line."""
    from sicl_jax.cli import main

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run
