"""Files from strangers: refused in one line or handled, with bounded memory."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import raw_pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_pictures import write

from sicl_jax.data.prepare import ProblemsError, Request, prepare
from sicl_jax.errors import UserError
from tfds_builders.person_folder.folder import PersonFolder
from tfds_builders.person_folder.table import read_table
from tfds_builders.reid import images, problems
from tfds_builders.reid.tree import Tree

FIRST = "rgb/train/002/B_cropped_rgb001"


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size; `data` are its compressed pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png_header(20_000, 20_000), "too many pixels"),
        (png_header(5_000, 5_000), "5000 x 5000 pixels, too many"),
        (png_header(2**31 - 1, 2**31 - 1), "too many pixels"),
        (png_header(1, 1, b"\0\0"), "1 x 1 pixels, too few"),
        (png_header(0, 8), "is not a JPEG, PNG"),
        (b"\xff\xd8\xff\xe0", "is not a JPEG, PNG"),
        (
            b"GIF89a" + bytes(100),
            "0 x 0 pixels, too few|is not a JPEG, PNG, BMP, WebP, TIFF or GIF",
        ),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a JPEG"),
    ],
    ids=["bomb", "large", "huge", "1 x 1", "0 wide", "no frame", "GIF", "PostScript"],
)
def test_files_that_are_no_crops(prcc, prepare_prcc, data, message):
    (prcc.raw / f"{FIRST}.jpg").write_bytes(data)
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc()
    (problem,) = caught.value.problems
    assert problem.path == f"{FIRST}.jpg"
    assert re.search(message, problem.detail)


def test_a_bomb_takes_little_memory(tmp_path):
    """400 million pixels are refused by the header, before a byte is set aside for them."""
    bomb = write(tmp_path / "bomb.png", png_header(20_000, 20_000, bytes(1_000_000)))
    program = (
        "import resource\n"
        "from tfds_builders.reid.decoding import check_all\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"print(check_all([{{'image': {str(bomb)!r}}}])[0].problems['image'])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "too many pixels" in done.stdout, done.stderr
    assert int(done.stdout.split()[-1]) < 20_000  # KiB


def test_links_out_of_the_tree(prcc, prepare_prcc, tmp_path):
    secret = write(tmp_path / "secret.jpg", (prcc.raw / f"{FIRST}.jpg").read_bytes())
    (prcc.raw / f"{FIRST}.jpg").unlink()
    (prcc.raw / f"{FIRST}.jpg").symlink_to(secret)
    (prcc.raw / "rgb/train/009").symlink_to(tmp_path)
    (prcc.raw / "rgb/train/loop").symlink_to(prcc.raw)
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc()
    found = {problem.path: problem.detail for problem in caught.value.problems}
    assert "leads out" in found[f"{FIRST}.jpg"]
    assert "leads out" in found["rgb/train/009"]
    assert "link to a folder" in found["rgb/train/loop"]


def test_links_inside_the_tree_are_followed(prcc, prepare_prcc):
    target = prcc.raw / "rgb/train/002/B_cropped_rgb002.jpg"
    (prcc.raw / f"{FIRST}.jpg").unlink()
    (prcc.raw / f"{FIRST}.jpg").symlink_to(target)
    assert prepare_prcc().problems == []


def test_pipes_do_not_make_it_wait(prcc, prepare_prcc):
    (prcc.raw / f"{FIRST}.jpg").unlink()
    os.mkfifo(prcc.raw / f"{FIRST}.jpg")
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc()
    assert caught.value.problems[0].detail == "is not a plain file"


def test_names_with_newlines_and_foreign_bytes(prcc, prepare_prcc):
    image = (prcc.raw / f"{FIRST}.jpg").read_bytes()
    for name in (b"A_1\n2.jpg", b"A_\xff\xfe.jpg", b"A_\x1b[31m.jpg"):
        write(prcc.raw / "rgb/train/002" / os.fsdecode(name), image)
    with pytest.raises(ProblemsError) as caught:
        prepare_prcc()
    assert len(caught.value.problems) == 3
    prepared = prepare_prcc(skip_bad=True)
    lines = (prepared.store.directory / "problems.csv").read_text().splitlines()
    assert len(lines) == 1 + 3
    assert all(line.isprintable() for line in lines)


def test_what_changes_under_the_scan_is_noticed(prcc, prepare_prcc, monkeypatch):
    from tfds_builders.reid import plan

    check = plan.check

    def check_and_swap(*args, **kwargs):
        planned = check(*args, **kwargs)
        other = prcc.raw / "rgb/train/002/B_cropped_rgb002.jpg"
        (prcc.raw / f"{FIRST}.jpg").write_bytes(other.read_bytes())
        return planned

    monkeypatch.setattr(plan, "check", check_and_swap)
    with pytest.raises(UserError, match="B_cropped_rgb001.jpg has changed since it was checked"):
        prepare_prcc()


@pytest.fixture
def crops(tmp_path):
    """A flat folder with one crop, for tables of labels."""
    picture = raw_pictures.people((1,))[0].image
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG")
    write(tmp_path / "crops/a.jpg", buffer.getvalue())
    return tmp_path / "crops"


def prepare_crops(crops):
    return prepare(Request("person_folder", crops.parent / "data", crops))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "the first line must be file,identity"),
        (b"name,identity\na.jpg,1\n", "the first line must be file,identity"),
        (b"file,file\na.jpg,1\n", "the first line must be file,identity"),
        (b"file," + b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n", "longer than 16 KiB"),
        (b"file" + b",a" * 5000 + b"\n", "the first line must be"),
        (b"\0" * 100, "the first line must be"),
        (b'"file,identity\n', "the first line must be"),
    ],
)
def test_tables_that_are_none(crops, table, message):
    (crops / "metadata.csv").write_bytes(table)
    with pytest.raises(UserError, match=message) as caught:
        prepare_crops(crops)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,=cmd|'/c calc'!A0", "is no label"),
        ("a.jpg,@SUM(1)", "is no label"),
        ("a.jpg,1,2", "3 cells, but the first line has 2"),
        ("a.jpg", "1 cells"),
        ("b.jpg,1", "lists it"),
        ("../../etc/passwd,1", "lists it"),
        ("a.jpg," + "9" * 200, "is no label"),
    ],
)
def test_rows_that_do_not_fit(crops, row, message):
    (crops / "metadata.csv").write_text(f"file,identity\n{row}\n")
    with pytest.raises(ProblemsError) as caught:
        prepare_crops(crops)
    (problem,) = caught.value.problems
    assert message in problem.detail


def test_large_numbers_in_a_table_are_names(crops):
    (crops / "metadata.csv").write_text(f"file,identity\na.jpg,{'9' * 50}\n")
    prepared = prepare_crops(crops)
    assert prepared.store.read("train", [0])[0]["identity"] == 0


def test_problems_are_no_formulas_in_a_spreadsheet(tmp_path):
    found = [problems.Problem(f"{sign}cmd.jpg", "name", "x\ny") for sign in "=+-@"]
    problems.write_csv(tmp_path / "p.csv", found)
    rows = (tmp_path / "p.csv").read_text().splitlines()[1:]
    assert all(row.startswith("'") for row in rows)
    assert len(rows) == 4


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), start=st.sampled_from(["jpg", "png", "none"]))
def test_any_bytes_for_an_image_or_mask(data, start):
    """Whatever the bytes: a picture or `BadFileError`, nothing else."""
    head = {"jpg": _JPEG[:300], "png": png_header(8, 8)[:40], "none": b""}[start]
    try:
        picture = images.check_image(head + data)
    except images.BadFileError as error:
        assert str(error).isprintable()
        picture = images.Picture(b"", (8, 8))
    try:
        images.check_mask(head + data, picture)
    except images.BadFileError as error:
        assert str(error).isprintable()


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((8, 16), 50).convert("RGB").save(buffer, format="JPEG")
    return buffer.getvalue()


_JPEG = _jpeg()


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, len(_JPEG) - 1), value=st.integers(0, 255), cut=st.integers(0, 99))
def test_a_damaged_jpeg(position, value, cut):
    damaged = bytearray(_JPEG)
    damaged[position] = value
    data = bytes(damaged[: len(damaged) - cut])
    try:
        found = images.open_image(data)
    except images.BadFileError as error:
        assert str(error).isprintable()
    else:
        np.testing.assert_array_equal(found, Image.open(io.BytesIO(data)).convert("RGB"))


@settings(max_examples=60, deadline=None)
@given(table=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)))
def test_any_bytes_for_a_table(table, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    write(folder / "metadata.csv", b"file,identity\n" + table)
    labels, found = read_table(Tree(folder), {"a.jpg"})
    assert set(labels) <= {"a.jpg"}
    assert all(problems.printable(problem.detail) == problem.detail for problem in found)
    write(folder / "metadata.csv", table)
    try:
        read_table(Tree(folder), set())
    except problems.RawDataError as error:
        assert str(error).isprintable()


@settings(max_examples=100, deadline=None)
@given(
    name=st.text(
        st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40
    ).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
)
def test_any_file_name(name, tmp_path_factory):
    """Found, noted as a problem, or left alone; never an error."""
    folder = tmp_path_factory.mktemp("names")
    write(folder / f"{name}.jpg", b"x")
    tree = Tree(folder)
    found, noted, _ = PersonFolder().find(tree)
    assert len(found) + len(noted) + len(tree.problems) <= 1
    if name.isalnum():
        assert [image.entry.path for image in found] == [f"{name}.jpg"]
