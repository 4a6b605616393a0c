"""Published methods behind one interface, a folder each; `register.METHODS` finds them by name."""

from collections.abc import Mapping

import ml_collections

from sicl_jax import config as configs
from sicl_jax.methods.base import Method
from sicl_jax.register import METHODS

# Columns that a method may read in training, and what counts them in a data set's card. Cameras are
# not among them: a method that reads them does without where they are unknown. Nor are pictures
# that a method asks for one by one (`has_face_restored`): it does without those that are missing.
_COUNTED = {
    "identity": "identities",
    "mask": "masks",
    "face": "faces",
    "face_restored": "restored_faces",
    "modality": "infrared",
}


def create(config: ml_collections.ConfigDict, sizes: dict[str, int] | None = None) -> Method:
    """The method that `config.method` names.

    Args:
        config: The experiment.
        sizes: Of its network, as a checkpoint has them; empty for a run that begins.

    Raises:
        UsageError: There is no such method, or fields do not fit together.
    """
    return METHODS.get(config.method, "config.method")(config, sizes)


def lacking(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """What a training split lacks for each method with its default settings.

    Args:
        counts: The split's line in the data set's card.

    Returns:
        What it has none of, by method; empty for the methods that could train on it.
    """
    found = {}
    for name in METHODS.names():
        method = create(configs.base(name))
        columns = (*method.labels, *method.forms)
        needed = [
            _COUNTED[column]
            for column in columns
            if column in _COUNTED and f"has_{column}" not in method.labels
        ]
        found[name] = [count for count in needed if not counts.get(count)]
    return found
