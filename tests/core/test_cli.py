"""The command line: help everywhere, one line and an exit code for whatever is wrong."""

import pytest
from click.testing import CliRunner

from sicl_jax import cli

COMMANDS = cli.group.list_commands(None)


def _fails(capsys, *arguments):
    """Exit code and the lines on standard error."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code, capsys.readouterr().err.strip().splitlines()


def test_all_promised_commands_are_there():
    promised = {"prepare", "train", "evaluate", "demo", "masks", "info", "verify", "export"}
    promised |= {"extract", "index", "search", "report", "faces"}
    promised |= {"config", "cluster", "compare", "matrix", "serve"}
    assert set(COMMANDS) == promised


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = CliRunner().invoke(cli.group, [command, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:") and "--help" in result.output


def test_version():
    result = CliRunner().invoke(cli.group, ["--version"])
    assert result.exit_code == 0 and "0.1.0" in result.output


def test_a_misspelt_field_names_the_nearest(capsys, tmp_path):
    arguments = ("train", "--config", "sicl_demo", "--workdir", tmp_path, "--config.epoch=3")
    code, lines = _fails(capsys, *arguments)
    assert code == 2
    assert lines == [
        "sicl-jax: error: --config.epoch: no such field; did you mean --config.epochs?"
    ]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("--config.method=scil", 2, "no method 'scil'; did you mean sicl?"),
        ("--config.compat=mine", 2, "--config.compat=mine: has to be one of released, paper"),
        ("--config.model.pretrained=nowhere.pth", 1, "nowhere.pth"),
        ("--config.data.name=market", 1, "market"),
        ("--config.data.dir=nowhere", 1, "nowhere"),
    ],
)
def test_a_wrong_value_is_named(capsys, tiny_data, tmp_path, change, code, message):
    arguments = [
        "--config.data.name=synthetic_people/tiny",
        f"--config.data.dir={tiny_data}",
        "--config.batch_size=16",
        "--config.model.width=4",
        "--config.model.pretrained=",
        change,
    ]
    got, lines = _fails(
        capsys, "train", "--quiet", "--config", "sicl_demo", "--workdir", tmp_path / "run",
        *arguments,
    )  # fmt: skip
    assert got == code
    errors = [line for line in lines if line.startswith("sicl-jax: error:")]
    assert len(errors) == 1 and message in errors[0]


def test_a_folder_without_a_run(capsys, tmp_path):
    code, lines = _fails(capsys, "evaluate", "--workdir", tmp_path)
    assert code == 1
    assert "no run here" in lines[-1]


def test_wrong_flags_are_usage_errors(capsys):
    for arguments in (["train"], ["prepare"], ["nonsense"], ["demo", "--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        assert capsys.readouterr().err.strip()
