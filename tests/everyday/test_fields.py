"""`sicl-jax config`: fields explained, from the same place as the document."""

import pathlib

import pytest

from sicl_jax import explain
from sicl_jax.errors import UsageError
from sicl_jax.register import METHODS

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "config.md"


def test_the_document_is_current():
    """If this fails: sicl-jax config --markdown > docs/config.md."""
    assert DOCUMENT.read_text() == explain.markdown()


def test_every_field_of_every_method_is_explained():
    found = explain.rows()
    for method in METHODS.names():
        own = {row.name for row in found if row.method == method}
        assert own == set(METHODS.get(method).fields)
    assert all(row.meaning.endswith((".", ",")) and row.range for row in found)
    (steps,) = (r for r in found if (r.method, r.name) == ("sicl", "steps_per_epoch"))
    assert steps.default == "400" and any(
        each.startswith("200 in ") and "sicl_ltcc" in each for each in steps.set_by
    )


def test_a_field_a_group_and_a_slip(sicl):
    code, out, _ = sicl("config", "--explain", "config.memory.momentum")
    assert code == 0 and "--config.memory.momentum=0.2  (sicl; number, from 0 to 1)" in out
    code, out, _ = sicl("config", "--explain", "schedule")
    assert code == 0 and out.count("(every method; ") > 5
    assert all("schedule." in line for line in out.splitlines() if line.startswith("--"))
    with pytest.raises(UsageError, match="epoch: no such field; did you mean --config.epochs"):
        explain.choose("epoch")
    code, out, _ = sicl("config", "--config", "sicl_prcc", "--config.epochs=3")
    assert code == 0 and "config.epochs = 3" in out
    assert sicl("config")[0] == 2
