"""Published methods behind one interface, a folder each; `register.METHODS` finds them by name."""

import ml_collections

from sicl_jax.methods.base import Method
from sicl_jax.register import METHODS


def create(config: ml_collections.ConfigDict, sizes: dict[str, int] | None = None) -> Method:
    """The method that `config.method` names.

    Args:
        config: The experiment.
        sizes: Of its network, as a checkpoint has them; empty for a run that begins.

    Raises:
        UsageError: There is no such method, or fields do not fit together.
    """
    return METHODS.get(config.method, "config.method")(config, sizes)
