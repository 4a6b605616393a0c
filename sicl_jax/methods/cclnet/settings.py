"""The config fields of CCLNet; defaults are the published settings (`docs/methods/cclnet.md`)."""

from collections.abc import Mapping

from sicl_jax import fields
from sicl_jax.fields import COMMON, Field
from sicl_jax.methods.cclnet import prompts

_STAGES = (0, 1, 2)

FIELDS: Mapping[str, Field] = {
    **fields.AUGMENT,
    **fields.CLUSTERING,
    "compat": Field(
        "released",
        fields.one_of("released", "paper"),
        "The exchange between matched clusters: released moves the infrared one towards the "
        "visible one already moved, paper towards what that was before.",
    ),
    "stages": Field(
        _STAGES,
        fields.Rule(
            lambda given: 0 < len(given) <= len(_STAGES) and given == _STAGES[: len(given)],
            "(0,), (0, 1) or (0, 1, 2): each stage needs what those before it found",
        ),
        "The stages that are run: clusters alone, prompts, clusters with prompts.",
    ),
    "epochs": COMMON["epochs"].but(120),
    "batch_size": COMMON["batch_size"].but(128),
    "data.name": COMMON["data.name"].but("sysu_mm01"),
    "data.image_size": COMMON["data.image_size"].but((288, 144)),
    "data.resize": COMMON["data.resize"].but("lanczos"),
    "augment.grey": fields.AUGMENT["augment.grey"].but(0.5),
    "augment.erase_area": fields.AUGMENT["augment.erase_area"].but((0.02, 0.33)),
    "augment.erase_aspect": fields.AUGMENT["augment.erase_aspect"].but((0.3, 3.3)),
    "augment.erase_log_aspect": fields.AUGMENT["augment.erase_log_aspect"].but(True),
    "augment.erase_tries": fields.AUGMENT["augment.erase_tries"].but(10),
    "augment.erase_fill": fields.AUGMENT["augment.erase_fill"].but((0.0, 0.0, 0.0)),
    "model.stage_sizes": Field(
        (3, 4, 6, 3), fields.within(1, 100).each(4), "Blocks of the ResNet's layers."
    ),
    "model.width": Field(64, fields.multiple_of(2, 4096), "Channels of the stems."),
    "model.embed_dim": Field(
        1024, fields.within(1, 65536), "Size of projections and text features."
    ),
    "model.text_width": Field(512, fields.multiple_of(64, 4096), "Width of the text transformer."),
    "model.text_layers": Field(12, fields.within(1, 100), "Its blocks."),
    "model.context": Field(77, fields.within(3, 4096), "Its positions."),
    "prompts.visible": Field(
        prompts.VISIBLE, fields.ANYTHING, "Sentence of visible images, X for a learned token."
    ),
    "prompts.infrared": Field(
        prompts.INFRARED, fields.ANYTHING, "Sentence of infrared images, likewise."
    ),
    "prompts.merges": Field(
        "",
        fields.ANYTHING,
        "CLIP's bpe_simple_vocab_16e6.txt.gz; the published sentences do without.",
        changes_results=False,
    ),
    "prompts.epochs": Field(60, fields.COUNT, "Epochs of stage 1; the others take `epochs`."),
    "prompts.batch_size": Field(
        128, fields.COUNT, "Images of each modality in a batch of stage 1."
    ),
    "prompts.learning_rate": Field(
        3.5e-4,
        fields.above_zero(1e30),
        "Greatest rate of stage 1; half a cosine falls from it,",
    ),
    "prompts.least_rate": Field(1e-6, fields.within(0, 1e30), "to this in its last epoch,"),
    "prompts.warmup_rate": Field(1e-5, fields.within(0, 1e30), "and a line rises from this,"),
    "prompts.warmup_epochs": Field(5, fields.COUNT_OR_NONE, "in so many epochs."),
    "prompts.weight_decay": Field(1e-4, fields.within(0, 1e30), "Decay of the prompts."),
    "memory.momentum": Field(0.1, fields.SHARE, "Weight of the old row in an update."),
    "memory.temperature": Field(0.05, fields.above_zero(1e6), "tau of the similarities."),
    "exchange.after": Field(
        60, fields.COUNT_OR_NONE, "Epochs of stages 0 and 2 before matched clusters exchange."
    ),
    "exchange.weight": Field(0.1, fields.SHARE, "Weight of the old row in an exchange."),
    "sampler.num_instances": Field(16, fields.COUNT, "Images that a cluster gives to a batch."),
    "schedule.name": COMMON["schedule.name"].but("multistep"),
    "schedule.milestones": COMMON["schedule.milestones"].but((30, 50)),
    "schedule.warmup_epochs": COMMON["schedule.warmup_epochs"].but(10),
    "schedule.warmup_factor": COMMON["schedule.warmup_factor"].but(0.01),
    "evaluate.always_after": COMMON["evaluate.always_after"].but(1_000_000),
}
