"""How the corridor's people are tested; without this, by the tests of any own folder."""

from sicl_jax.evaluation import rules
from sicl_jax.evaluation.protocols import Draw, Protocol, Protocols, Selection

PROTOCOLS = Protocols(
    (
        Protocol("other_day", rule=rules.CLOTH_CHANGING),
        Protocol("any_day", rule=rules.STANDARD),
        Protocol("any_day/single_shot", (Selection(draw=Draw()),), rules.STANDARD),
    )
)
