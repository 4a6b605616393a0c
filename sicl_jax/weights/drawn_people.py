"""The networks that come with this package, as `config.model.pretrained=drawn-people` names them.

There is one for each architecture (docs/drawn_people.md); the method takes that of its own.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from sicl_jax.errors import UserError

NAME = "drawn-people"


@dataclasses.dataclass(frozen=True)
class Network:
    """One of them.

    Attributes:
        file: Its weights.
        fields: Its config, by field.
    """

    file: pathlib.Path
    fields: Mapping[str, Any]

    def find(self, fields: Mapping[str, Any]) -> pathlib.Path:
        """The file, for a model that it fits.

        Args:
            fields: Those of the model's config fields that have to be the network's.

        Raises:
            UserError: They are not.
        """
        wanted = {name: self.fields[name] for name in fields}
        if wanted != fields:
            listed = ", ".join(f"{name}={value}" for name, value in wanted.items())
            raise UserError(
                f"config.model.pretrained={NAME}: that network has {listed}; give these, or name "
                "other weights"
            )
        return self.file


_FOLDER = pathlib.Path(__file__).parent
_PICTURE = {"data.image_size": (128, 64)}
RESNET = Network(
    _FOLDER / "drawn_people.safetensors",
    _PICTURE | {"model.block": "basic", "model.stage_sizes": (1, 1, 1, 1), "model.width": 16},
)
"""Of torchvision's shape: names in the file are torchvision's, and `feat_bn`."""
CLIP = Network(
    _FOLDER / "drawn_people_clip.safetensors",
    _PICTURE
    | {
        "model.stage_sizes": (1, 1, 1, 1),
        "model.width": 8,
        "model.embed_dim": 64,
        "model.text_width": 64,
        "model.text_layers": 2,
        "model.context": 77,
    },
)
"""Of CLIP's shape, for CCLNet: the authors' names, both stems alike, in halves as OpenAI's file."""
