"""The quality report on masks with planted faults."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from sicl_jax import cli
from sicl_jax.errors import UserError
from sicl_jax.masks import quality, sheet


def person(height=40, width=20):
    mask = np.zeros((height, width), bool)
    mask[5:35, 6:14] = True
    return mask


@pytest.fixture
def masks(tmp_path):
    """Ten masks: two empty, one of the background, two in pieces, one unreadable, four good."""
    folder = tmp_path / "masks"
    (folder / "a").mkdir(parents=True)
    pieces = person()
    pieces[18:22] = False
    background = ~person()
    speck = person()
    speck[0, 0] = True  # A piece, but a small one.
    planted = {
        "a/empty.png": np.zeros((40, 20), bool),
        "empty.png": np.zeros((9, 9), bool),
        "background.png": background,
        "a/pieces.png": pieces,
        "speck.png": speck,
        "good.png": person(),
    }
    for name, mask in planted.items():
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / name)
    palette = Image.fromarray(pieces.astype(np.uint8) * 5)
    palette.putpalette([0] * 768)  # Black throughout: labels count, not colours.
    palette.save(folder / "palette.png")
    Image.fromarray(person()).save(folder / "one_bit.png")
    Image.fromarray(
        np.stack([person() * 64, person() * 0, person() * 9], -1).astype(np.uint8)
    ).save(folder / "colour.png")
    (folder / "text.png").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    return folder


def test_planted_faults_are_counted(masks):
    report = quality.check_folder(masks)
    assert (report.total, report.unreadable, report.empty) == (10, 1, 2)
    assert (report.all_borders, report.several_pieces) == (1, 2)
    names = [signs.name for signs in report.worst]
    assert names[0] == "text.png"
    assert set(names[1:3]) == {"a/empty.png", "empty.png"}
    assert names[3] == "background.png"
    assert set(names[4:]) == {"a/pieces.png", "palette.png"}
    assert report.worst[4].complaints() == ["2 pieces"]
    summary = json.loads(json.dumps(report.summary()))
    assert summary["empty_share"] == 0.2
    assert quality.check_folder(masks, num_worst=2).worst == report.worst[:2]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "I;16"])
def test_person_is_what_is_not_zero_whatever_the_format(mode, tmp_path):
    if mode == "P":
        mask = Image.fromarray(person() * np.uint8(3))
        mask.putpalette([0] * 768)
    elif mode == "I;16":
        mask = Image.fromarray(person() * np.uint16(300))
    else:
        mask = Image.fromarray(person()).convert("RGB" if mode == "RGBA" else "L").convert(mode)
    assert mask.mode == mode
    mask.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as stored:
        np.testing.assert_array_equal(quality.person_pixels(stored), person())


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_signs_against_scipy(mask):
    signs = quality.mask_signs(mask)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    assert signs.is_empty == (not mask.any())
    assert signs.coverage == pytest.approx(mask.mean())
    assert signs.large_pieces == (areas >= 0.1 * mask.sum()).sum()
    if mask.any():
        assert signs.main_share == pytest.approx(areas.max() / mask.sum())
    sides = mask[0].any() and mask[-1].any() and mask[:, 0].any() and mask[:, -1].any()
    assert signs.touches_all_borders == sides


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_warns_above_five_per_cent(total, empty):
    warning = quality.empty_warning(min(empty, total), total)
    assert (warning is not None) == (min(empty, total) / total > 0.05)


def test_warning_of_a_prepared_array(tmp_path):
    masks = np.zeros((600, 8, 4), np.uint8)
    masks[:, 3, 2] = 1
    masks[::20] = 0  # 30 of 600: exactly five per cent.
    np.save(tmp_path / "masks.npy", masks)
    stored = np.load(tmp_path / "masks.npy", mmap_mode="r")
    assert quality.empty_masks_warning(stored) is None
    assert "30 of 600 masks (5.0%)" in quality.empty_masks_warning(stored, limit=0.04)
    masks[1] = 0
    assert "31 of 600" in quality.empty_masks_warning(masks)


def test_contact_sheet_shows_masks_beside_their_images(masks, tmp_path):
    report = quality.check_folder(masks)
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    for signs in report.worst:
        Image.new("RGB", (20, 40), (250, 0, 0)).save((images / signs.name).with_suffix(".jpg"))
    alone, beside = tmp_path / "alone.png", tmp_path / "beside.png"
    sheet.write_contact_sheet(report, alone, masks_dir=masks)
    sheet.write_contact_sheet(report, beside, masks_dir=masks, images_dir=images)
    with Image.open(alone) as without, Image.open(beside) as with_images:
        assert with_images.width > without.width
        red = (np.asarray(without) == (250, 0, 0)).all(axis=-1).sum()
        assert red == 0
        pixels = np.asarray(with_images).astype(int)
    red = (np.abs(pixels - (250, 0, 0)).max(axis=-1) < 9).sum()
    assert red == 6 * 96 * 192  # One whole picture for each bad mask.
    with pytest.raises(UserError, match="sheet.txt: cannot be written"):
        sheet.write_contact_sheet(report, tmp_path / "sheet.txt", masks_dir=masks)


def test_check_command(masks, tmp_path, capsys):
    arguments = ["masks", "--check", "--output", str(masks), "--sheet", str(tmp_path / "s.png")]
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert not caught.value.code
    printed = capsys.readouterr().out
    assert "empty: 2 (20.0%)" in printed
    assert "warning: 2 of 10 masks (20.0%) are empty" in printed
    assert (tmp_path / "s.png").exists()
    (tmp_path / "bare").mkdir()
    with pytest.raises(SystemExit) as caught:
        cli.main(["masks", "--check", "--output", str(tmp_path / "bare")])
    assert caught.value.code == 1


def test_real_silhouettes_show_no_fault(real_photographs):
    report = quality.check_folder(real_photographs / "prcc_masks")
    assert (report.total, report.empty, report.all_borders) == (680, 0, 0)
