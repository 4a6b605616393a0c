"""An index made by several processes: what one would have made, also after one of them failed."""

import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sicl_jax.errors import UserError
from sicl_jax.retrieval import build, stores
from sicl_jax.retrieval.index import GalleryIndex

# Twice the same command in the same process: first it stops at the bad file, then it goes on.
_TWICE = """
import sys
from sicl_jax.cli import main
*words, coordinator, number = sys.argv[1:]
others = ["--coordinator", coordinator, "--num_processes", "2", "--process_id", number]
for more in (others, ["--skip_bad"]):
    try:
        main([*words, *more])
    except SystemExit as ended:
        print("exit", ended.code)
"""


def test_two_processes_go_on_to_the_index_of_one(crops, tmp_path):
    folder = shutil.copytree(crops, tmp_path / "crops")
    (folder / "cam2" / "z.png").write_bytes(b"none")  # The last one: of the second one's share.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    words = ["index", "--workdir", "drawn-people", "--images", str(folder), "--json", "--quiet"]
    words += ["--batch_size", "8", "--index"]
    command = [sys.executable, "-c", _TWICE, *words, str(tmp_path / "two"), address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, number], **pipes) for number in "01"]
    (out, err), (other_out, other_err) = (process.communicate() for process in running)
    assert [process.returncode for process in running] == [0, 0], err + other_err
    assert "exit 1" in out and "process 1 failed; its own message says why" in err
    assert "exit 1" in other_out and "z.png" in other_err and "left out: " in other_err
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    # The first one's half was there already.
    assert told | {"index": ""} == {"index": "", "added": 12, "images": 24, "left_out": 1}

    (folder / "cam2" / "z.png").unlink()
    build.add_folder(build.load("drawn-people"), folder, tmp_path / "one", batch_size=8)
    one, two = (GalleryIndex.open(tmp_path / name) for name in ("one", "two"))
    assert two.entries == one.entries
    np.testing.assert_allclose(two.features(), one.features(), atol=1e-5)
    assert stores.parts(tmp_path / "two") == []


def test_what_another_model_left_is_not_put_together(model, crops, index_folder):
    part = GalleryIndex(
        model.about() | {"model": "0" * 16}, GalleryIndex.open(index_folder).view, 4
    )
    part.save(stores.part(index_folder, 1))
    with pytest.raises(UserError, match="part-0001: made with another model"):
        build.add_folder(model, crops, index_folder)


def test_what_is_removed_is_not_left_in_a_part(model, crops, tmp_path):
    place = tmp_path / "index"
    build.add_folder(model, crops / "cam1", stores.part(place, 0))
    build.add_folder(model, crops / "cam2", place)
    stores.part(place, 1).mkdir()  # A process that had not come to save anything.
    assert build.remove(place, ("p0_*",)).removed == 4
    image = Image.new("RGB", (64, 128))
    shutil.copytree(crops, tmp_path / "more")
    image.save(tmp_path / "more" / "new.png")
    changes = build.add_folder(model, tmp_path / "more", place)
    assert (changes.added, changes.kept) == (25, 20)
