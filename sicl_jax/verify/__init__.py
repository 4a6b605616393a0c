"""Recomputes golden numbers, those of the methods' published code, on the device in use.

A method brings its checks with it: `Method.golden_checks()` returns checkers by the stem of the
golden file that each recomputes,

    CHECKS = {"losses": check_losses, "train_steps": check_train_steps}

    def check_losses(golden: Golden) -> Iterator[Check]:
        loss = my_loss(jnp.asarray(golden["logits"]), golden["labels"])
        yield golden.check("loss", loss, 1e-4)

by convention from the module `verify` of its package, imported only when it is called.
`sicl-jax verify` and the tests do the rest: files that are missing or damaged, the table, the exit
code. Verdicts are relative to the largest magnitude of an array. Gradients of whole models, and
what comes after an optimiser, are judged by `Golden.check_controlled`: float32 differs from machine
to machine, and Adam divides by the gradient's magnitude, so where that is small rounding decides
the direction. The tolerance is then what the same program makes of inputs that are off by one last
bit, five times over, if that is more than the fixed one. A gradient has kinks besides: where a
ReLU's input is 0 but for rounding it is one of two, and the file may have the other one. So what is
still beyond is compared with up to 64 such controls, of which one has to agree within the fixed
tolerance; half of them flip the ReLUs nearest to 0 besides, where a check knows how
(`networks.Kinks`). Quantities that need either are called ill-conditioned. In float64
(`sicl-jax verify --float64`) hardly any is, but for kinks that the file's own float32 decided.

Modules here check what several methods share; SiCL's own checks are in `methods/sicl/verify.py`.
"""

from sicl_jax.verify.checks import Check
from sicl_jax.verify.files import Golden
from sicl_jax.verify.folder import GOLDEN, verify, verify_file

__all__ = ["GOLDEN", "Check", "Golden", "verify", "verify_file"]
