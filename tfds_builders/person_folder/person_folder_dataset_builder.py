"""Any folder of people: a user's own crops."""

from tfds_builders.person_folder.folder import PersonFolder
from tfds_builders.reid.builder import ReidBuilder


class Builder(ReidBuilder):
    """TFDS builder of a user's own crops."""

    source = PersonFolder()
