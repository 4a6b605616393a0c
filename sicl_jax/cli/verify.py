"""`sicl-jax verify`: does this machine compute what the authors' code computes?"""

import json
import math

import click


@click.command(short_help="Check the numbers against the authors' code.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--method", help="Check this method alone; FOLDER is that method's.")
@click.option(
    "--float64", is_flag=True, help="Recompute models and training steps in double precision."
)
@click.option("--allow_missing", is_flag=True, help="Skip golden files that FOLDER lacks.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(folder, method, float64, allow_missing, as_json):
    """Recompute golden numbers and compare.

    FOLDER holds golden files of the methods' published code: SiCL's, and a folder for each other
    method (default: those of the package). They are recomputed on the device that JAX uses here.
    Exit code 0 only when all agree. Quantities that rounding alone moves by more than their
    tolerance are called ill-conditioned: they are allowed what it was measured to move them by, or
    have to agree within their tolerance once inputs are off by a last bit.
    """
    import jax

    from sicl_jax import verify
    from sicl_jax.console import progress
    from sicl_jax.errors import UserError

    checks = []
    with progress(None, "verify") as bar:
        for check in verify.verify(
            folder, method=method, allow_missing=allow_missing, float64=float64
        ):
            checks.append(check)
            bar.advance(note=f"{check.file} {check.quantity}")
    device = jax.devices()[0].device_kind
    print(_json(checks, device) if as_json else _table(checks, device))
    failed = [check for check in checks if not check.ok]
    if failed:
        first = f"{failed[0].file} {failed[0].quantity}"
        raise UserError(
            f"{len(failed)} of {len(checks)} quantities are beyond their tolerance on {device}, "
            f"{first} first; do not train on this device before that is understood"
        )


def _json(checks, device) -> str:
    rows = [
        {
            "file": check.file,
            "quantity": check.quantity,
            "largest_relative_error": check.error if math.isfinite(check.error) else None,
            "tolerance": check.allowed,
            "ill_conditioned": check.ill_conditioned,
            "nearest_control": check.nearest if math.isfinite(check.nearest) else None,
            "verdict": "agrees" if check.ok else "DIFFERS",
        }
        for check in checks
    ]
    return json.dumps({"device": device, "ok": all(c.ok for c in checks), "checks": rows})


def _table(checks, device) -> str:
    """Aligned columns in plain text, so that it can be piped and compared."""
    header = ("file", "quantity", "largest relative error", "tolerance", "verdict")
    rows = [header] + [
        (c.file, c.quantity, f"{c.error:.1e}", f"{c.allowed:.0e}", _verdict(c)) for c in checks
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in (2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    agree = sum(check.ok for check in checks)
    lines.append(f"{agree} of {len(checks)} quantities agree on {device}")
    if found := sum(check.ill_conditioned for check in checks):
        lines.append(
            f"{found} ill-conditioned: rounding alone may move them by more than their fixed "
            "tolerance, so what it was measured to do is allowed; try --float64"
        )
    return "\n".join(lines)


def _verdict(check) -> str:
    if check.decided_by_rounding:
        return f"agrees (ill-conditioned: {check.nearest:.1e} with inputs off by a last bit)"
    verdict = "agrees" if check.ok else "DIFFERS"
    return f"{verdict} (ill-conditioned)" if check.ill_conditioned else verdict
