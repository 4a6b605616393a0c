"""CCLNet's three stages and their optimisers (`docs/methods/cclnet.md`, sections 6 and 7)."""

import types

import ml_collections

from sicl_jax import optimizers
from sicl_jax.methods.state import Stage

# No gradient reaches these: the prompts but in stage 1, the attention pool in stage 0.
_PROMPTS, _POOL = r"_prompts\.", r"^attention_pool\."


def stages_of(config: ml_collections.ConfigDict) -> tuple[Stage, ...]:
    """The stages that `config.stages` names; epochs count from 1 in rates."""
    epochs, options, exchange = config.epochs, config.prompts, (config.exchange.after,)
    of_prompts = types.SimpleNamespace(
        name="cosine",
        start=0,
        end=options.epochs,
        floor=options.least_rate / options.learning_rate,
        warmup_epochs=options.warmup_epochs,
        warmup_factor=options.warmup_rate / options.learning_rate,
    )
    stages = (
        Stage("stage 0", epochs, _image_optimizer(config, _PROMPTS, _POOL), phases=exchange),
        Stage(
            "stage 1",
            options.epochs,
            optimizers.adam(
                _from_one(options.learning_rate, optimizers.schedule(of_prompts)),
                weight_decay=options.weight_decay,
                frozen=(rf"^(?!.*{_PROMPTS})",),
            ),
            reads=(),
            tested=False,
            anew=True,
        ),
        Stage("stage 2", epochs, _image_optimizer(config, _PROMPTS), phases=exchange),
    )
    return stages[: len(config.stages)]


def _image_optimizer(config: ml_collections.ConfigDict, *frozen: str):
    rate = _from_one(config.optimizer.learning_rate, optimizers.schedule(config.schedule))
    return optimizers.adam(
        rate,
        weight_decay=config.optimizer.weight_decay,
        unit=config.schedule.unit,
        factors={"bias": 2.0},
        frozen=frozen,
    )


def _from_one(base: float, factor: optimizers.Schedule) -> optimizers.Schedule:
    """A rate whose formula counts epochs from 1."""
    return lambda epoch: base * factor(epoch + 1)
