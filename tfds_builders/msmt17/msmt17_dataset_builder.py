"""MSMT17: people on a campus, seen by fifteen cameras; its first or its second release."""

from tfds_builders.reid.builder import ReidBuilder
from tfds_builders.reid.layout import Found, Published, Source
from tfds_builders.reid.lists import ImageList, Lists
from tfds_builders.reid.problems import Problem, RawDataError
from tfds_builders.reid.tree import Tree

_NAME = r"(?P<identity>\d{1,9})/\d+_\d+_(?P<camera>\d{1,3})_[^/]*"
_TRAIN_PEOPLE = 1_041
_FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
_PUBLISHED = {
    "train": Published(30_248 + 2_373, _TRAIN_PEOPLE),
    "query": Published(11_659, 3_060),
    "gallery": Published(82_161, 3_060),
}


class Msmt17(Source):
    """Both releases, whose folders have other names; the second one's faces are masked.

    The validation list counts as training, as in the literature. Test people are numbered from 0
    again, so the number of training people is added.
    """

    title = "MSMT17"
    published = _PUBLISHED

    def find(self, tree: Tree) -> tuple[list[Found], list[Problem], list[str]]:
        """Lists images, problems and warnings; see `Source`."""
        there = [(train, test) for train, test in _FOLDERS if tree.has(train) and tree.has(test)]
        if len(there) != 1:
            names = " or ".join(" and ".join(pair) for pair in _FOLDERS)
            raise RawDataError(
                f"{tree.root} must hold folders {names}, and not both; give MSMT17's own folder"
            )
        (train, test) = there[0]
        lists = (
            ImageList("train", "list_train.txt", _NAME, train),
            ImageList("train", "list_val.txt", _NAME, train),
            ImageList("query", "list_query.txt", _NAME, test, first_identity=_TRAIN_PEOPLE),
            ImageList("gallery", "list_gallery.txt", _NAME, test, first_identity=_TRAIN_PEOPLE),
        )
        return Lists(self.title, lists, self.published).find(tree)


class Builder(ReidBuilder):
    """TFDS builder of MSMT17."""

    source = Msmt17()
