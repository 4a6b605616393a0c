"""Builder packages are what TFDS's conventions ask for, and their dummy data can be prepared."""

import pathlib
import re

import pytest
import raw_trees
from stock_cases import SPLITS
from tensorflow_datasets.core import dataset_metadata

from sicl_jax.data.prepare import Request, builder_class, prepare
from sicl_jax.register import DATASETS

_BUILDERS = pathlib.Path(__file__).parents[2] / "tfds_builders"


@pytest.mark.parametrize("name", DATASETS.names())
def test_metadata_files(name):
    folder = _BUILDERS / name
    metadata = dataset_metadata.load(folder)
    assert len(metadata.description) > 200
    assert re.match(r"@\w+\{", metadata.citation)
    assert metadata.citation.count("{") == metadata.citation.count("}")
    assert metadata.tags
    assert set(metadata.tags) <= set(dataset_metadata.valid_tags())


@pytest.mark.parametrize("name", raw_trees.WRITERS)
def test_readme_says_what_a_user_must_know(name):
    readme = (_BUILDERS / name / "README.md").read_text()
    for heading in ("## Terms", "## How to prepare it", "## Splits"):
        assert heading in readme
    if name != "person_folder":
        assert "## How to get it" in readme
    assert f"sicl-jax prepare {raw_trees.CONFIGS.get(name, name)} --raw RAW" in readme
    for split in SPLITS[name]:
        assert f"`{split}`" in readme


@pytest.mark.parametrize("name", raw_trees.WRITERS)
def test_dummy_data(name, tmp_path):
    """Masks are found in the folder `masks`, as with `tfds build`."""
    request = Request(raw_trees.CONFIGS.get(name, name), tmp_path, _BUILDERS / name / "dummy_data")
    prepared = prepare(request)
    assert prepared.store.examples == SPLITS[name]
    card = prepared.store.metadata["card"]
    assert all(counts["masks"] == counts["images"] for counts in card.values())


def test_published_counts():
    """As datasets.md has them: identities of train and test; images of train, query, gallery."""
    expected = {
        "prcc": (150, 71, 17_896, 3_543 + 3_873, 3_384),
        "ltcc": (77, 75, 9_576, 493, 7_050),
        "vc_clothes": (256, 256, 9_449, 1_020, 8_591),
        "celeb_reid": (632, 420, 20_208, 2_972, 11_006),
        "celeb_reid_light": (490, 100, 9_021, 887, 934),
        "deepchange": (450, 521, 75_083, 17_527, 62_956),
        "sysu_mm01": (395, 96, 22_258 + 11_909, 3_803, 6_775),
        "llcm": (713, 351, 16_946 + 13_975, 8_680, 7_166),
        "market1501": (751, 750, 12_936, 3_368, 15_913),
        "msmt17": (1_041, 3_060, 32_621, 11_659, 82_161),
        "personx": (410, 856, 9_840, 5_136, 30_816),
        "last": (5_000, 5_806, 71_248, 10_176, 125_353),
        "nkup": (40, 67, 5_336, 332, 4_070),
    }
    for name, counts in expected.items():
        published = builder_class(name).source.published
        queries = [size for split, size in published.items() if split.startswith("query")]
        assert counts == (
            published["train"].identities,
            published["gallery"].identities,
            published["train"].images,
            sum(size.images for size in queries),
            published["gallery"].images,
        )
