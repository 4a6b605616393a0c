"""An own data set as `docs/data.md` says: outside the package, prepared and told of by its name."""

import pathlib
import sys
import tomllib

import pytest
import raw_pictures
from click.testing import CliRunner

from sicl_jax import evaluation
from sicl_jax.cli import info
from sicl_jax.cli.prepare import command
from sicl_jax.data.dataset import load_dataset
from sicl_jax.errors import UserError
from sicl_jax.register import DATASETS, PROTOCOLS

_REPOSITORY = pathlib.Path(__file__).parents[2]
_EXAMPLE = _REPOSITORY / "examples" / "own_dataset"


def declare(folder: pathlib.Path, project: dict) -> None:
    """Writes what an installer would leave of a package's entry points."""
    written = folder / f"{project['name']}-{project['version']}.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (written / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in groups
        )
    )


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package as if by pip, for one test: `installed(folder, project)`."""
    for registry in (DATASETS, PROTOCOLS):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    def install(folder: pathlib.Path, project: dict) -> None:
        site = tmp_path / "site-packages"
        site.mkdir()
        declare(site, project)
        monkeypatch.syspath_prepend(site)
        monkeypatch.syspath_prepend(folder)

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "corridor"]:
        del sys.modules[name]


def write_corridor(folder: pathlib.Path) -> raw_pictures.RawTree:
    writer = raw_pictures.Writer(folder, mask_kind="grey")
    raw_pictures.in_three_folders(
        writer,
        raw_pictures.CAST,
        ("train", "query", "gallery"),
        lambda p: f"person-{p.identity}_camera-{p.camera}_day-{p.clothes}_{p.number:06d}",
        lambda p, place: raw_pictures.Labels(p.identity, p.camera, p.clothes),
    )
    return writer.finish()


def run(program, *words):
    return CliRunner().invoke(program, [str(word) for word in words])


def test_the_example_is_prepared_and_told_of(installed, tmp_path):
    project = tomllib.loads((_EXAMPLE / "pyproject.toml").read_text())["project"]
    installed(_EXAMPLE, project)
    assert "corridor" in DATASETS.names()
    tree = write_corridor(tmp_path)
    words = ("corridor", "--data_dir", tmp_path / "data")
    done = run(command, *words, "--raw", tree.raw, "--masks", tree.masks)
    assert done.exit_code == 0, done.output
    told = run(info.command, *words).output
    assert "corridor in " in told and "published" not in told
    split = load_dataset("corridor", tmp_path / "data").split("query")
    for row, name in enumerate(split.names):
        labels = tree.labels["query"][name]
        assert split.labels["identity"][row] == labels.identity
        assert split.labels["camera"][row] == labels.camera
    names = [protocol.name for protocol in evaluation.protocols("corridor")]
    assert names == ["other_day", "any_day", "any_day/single_shot"]


def test_the_documents_show_the_example():
    text = (_REPOSITORY / "docs" / "data.md").read_text()
    builder = (_EXAMPLE / "corridor" / "corridor_dataset_builder.py").read_text()
    project = (_EXAMPLE / "pyproject.toml").read_text()
    assert builder in text and project[project.index("[project.entry") :] in text


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("builder.py", None, "builder's name is 'misnamed'.*corridor_dataset_builder.py"),
        ("builder.py", "import nowhere", "cannot be imported: No module named 'nowhere'"),
        ("builder.py", "Builder = 1", "1 is no TFDS builder"),
    ],
)
def test_a_builder_that_is_none_is_one_line(installed, tmp_path, file, source, message):
    package = tmp_path / "packages" / "misnamed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    right = _EXAMPLE / "corridor" / "corridor_dataset_builder.py"
    (package / file).write_text(right.read_text() if source is None else source)
    target = f"misnamed.{file.removesuffix('.py')}:Builder"
    entries = {"sicl_jax.datasets": {"corridor": target}}
    installed(package.parent, {"name": "misnamed", "version": "1", "entry-points": entries})
    try:
        done = run(command, "corridor", "--raw", tmp_path, "--data_dir", tmp_path / "data")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "misnamed"]:
            del sys.modules[name]
    assert isinstance(done.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise done.exception
    assert "\n" not in str(done.exception)
