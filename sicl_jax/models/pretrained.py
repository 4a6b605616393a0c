"""`config.model.pretrained`: the weights that training starts from, wherever they come from."""

from sicl_jax.models import released_weights, torchvision_weights
from sicl_jax.models.resnet import ResNetConfig
from sicl_jax.models.torch_files import load_state_dict
from sicl_jax.models.two_stream import TwoStreamModel

IMAGENET = "imagenet"


def load(model: TwoStreamModel, source: str, config: ResNetConfig) -> None:
    """Fills a model from published weights.

    ImageNet weights go into the backbones of both streams. A checkpoint of the authors is an RGB
    encoder and goes into the RGB stream alone.

    Args:
        model: What to fill; its other weights stay as they are.
        source: A file, recognised by the names in it, or `'imagenet'`.
        config: The shape of the encoders.

    Raises:
        UserError: The file is missing, cannot be read or does not fit the model.
    """
    path = torchvision_weights.imagenet_file(config) if source == IMAGENET else source
    arrays = load_state_dict(path, strip_prefix="module.")
    if released_weights.is_released(arrays):
        released_weights.assign(model.rgb, arrays, path)
        return
    for encoder in (model.rgb, model.silhouette):
        if encoder is not None:
            torchvision_weights.assign(encoder.backbone, arrays, path)
