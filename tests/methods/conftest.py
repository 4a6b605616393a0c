"""What the methods' tests share."""

import pytest

from sicl_jax.cli import main
from sicl_jax.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(compiled_once):
    """In every module here."""


@pytest.fixture(scope="session")
def command():
    """Runs the command line, `command([...])`, and gives its exit code."""

    def run(words) -> int:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        return left.value.code or 0

    return run


@pytest.fixture
def stopped(command, monkeypatch):
    """Runs a training command that ends once its first checkpoint is whole."""
    from sicl_jax.training import position

    def run(words) -> None:
        real = position.Position.save

        def save(self):
            real(self)
            self.wait()
            raise UserError("stopped by the test")

        with monkeypatch.context() as patch:
            patch.setattr(position.Position, "save", save)
            assert command(words) == 1

    return run
