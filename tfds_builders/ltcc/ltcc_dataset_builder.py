"""LTCC: people in an office building, filmed over months in several outfits."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Folder, Found, Layout, Published
from tfds_builders.reid.tree import Tree

_NAME = r"(?P<identity>\d{1,9})_(?P<clothes>\d{1,9})_c(?P<camera>\d{1,3})_\d+"
_CHANGING = "info/cloth-change_id_test.txt"


def _compare_with_info(tree: Tree, found: list[Found]) -> list[str]:
    """Warns if the published list of people who change clothes is not what the names say."""
    if not (tree.root / _CHANGING).is_file():
        return [f"{_CHANGING} is missing; who changes clothes is taken from the file names"]
    listed = _listed(tree)
    outfits: dict[int, set[int]] = {}
    for image in found:
        if image.split != "train":
            outfits.setdefault(image.identity, set()).add(image.clothes)
    changing = {identity for identity, worn in outfits.items() if len(worn) > 1}
    if listed == changing:
        return []
    return [
        f"{_CHANGING} lists {len(listed)} people, but by the file names {len(changing)} change "
        f"clothes; they differ in {len(listed ^ changing)}. The list is what counts in the test"
    ]


def _listed(tree: Tree) -> set[int]:
    return {int(line) for line in tree.lines(_CHANGING) if line.strip().isdecimal()}


class _Ltcc(Layout):
    """A `Layout` that notes the list of people who change clothes."""

    def notes(self, raw, splits):  # noqa: ARG002 (of `Source`)
        """The list, where it is there; see `Source`."""
        if not (raw / _CHANGING).is_file():
            return {}
        return {"changing_identities": sorted(_listed(Tree(raw)))}


class Builder(ReidBuilder):
    """TFDS builder of LTCC."""

    source = _Ltcc(
        title="LTCC",
        review=_compare_with_info,
        folders=(
            Folder("train", "train", _NAME, published=Published(9_576, 77)),
            Folder("query", "query", _NAME, published=Published(493, 75)),
            Folder("gallery", "test", _NAME, published=Published(7_050, 75)),
        ),
    )
