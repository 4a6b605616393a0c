"""The command `sicl-jax`: a group whose subcommands are imported only when they are used."""

import importlib
import pkgutil
import sys

import click

import sicl_jax
from sicl_jax.errors import StoppedError, UserError


class _LazyGroup(click.Group):
    """Finds subcommand NAME as `sicl_jax.cli.NAME.command`."""

    def list_commands(self, ctx):  # noqa: ARG002 (click's signature)
        names = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name for name in names if name not in _NOT_COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"sicl_jax.cli.{cmd_name}").command

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # Click's own exit code for it is 1.
            click.echo("sicl-jax: stopped by Ctrl-C", err=True)
            ctx.exit(130)


_NOT_COMMANDS = frozenset({"options"})


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sicl_jax.__version__, prog_name="sicl-jax")
def group():
    """Person re-identification that survives a change of clothes, without identity labels."""


def main(args: list[str] | None = None) -> None:
    """Runs the command line; a user's error becomes one line and exit code 2 (usage) or 1.

    Stopped by a signal, it exits with the shell's code: 130 for Ctrl-C, 143 for SIGTERM.
    """
    try:
        group(args, prog_name="sicl-jax")
    except StoppedError as error:
        click.echo(f"sicl-jax: {error}", err=True)
        sys.exit(error.exit_code)
    except UserError as error:
        click.echo(f"sicl-jax: error: {error}", err=True)
        sys.exit(error.exit_code)
