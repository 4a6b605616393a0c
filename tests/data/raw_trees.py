"""Writes each data set's raw folders (`raw_pictures` draws what is in them)."""

import dataclasses
import itertools
import pathlib

import numpy as np
import scipy.io
from raw_pictures import (
    CAMERAS,
    CAST,
    PER_CAMERA,
    VALIDATION_PERSON,
    Cast,
    Drawn,
    Labels,
    RawTree,
    Writer,
    draw,
    in_three_folders,
    people,
    write,
    write_faces,
    write_mask,
    write_plain,
)


def write_prcc(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As PRCC: `rgb/train`, `rgb/val` of the same people, `rgb/test/A`, `B`, `C`."""
    writer = Writer(folder, mask_kind="binary")
    more = [draw(cast.train[0], camera, PER_CAMERA) for camera in range(len(CAMERAS))]
    placed = [("train", p) for p in people(cast.train)] + [("val", p) for p in more]
    for split, p in placed:
        name = f"{CAMERAS[p.camera]}_cropped_rgb{p.number + 1:03d}"
        stem = f"rgb/{split}/{p.identity:03d}/{name}"
        writer.add(split, stem, p, Labels(p.identity, p.camera, p.clothes))
    splits = ("gallery", "query_same", "query_changed")
    for p in people(cast.test):
        stem = f"rgb/test/{CAMERAS[p.camera]}/{p.identity:03d}/cropped_rgb{p.number + 1:03d}"
        writer.add(splits[p.camera], stem, p, Labels(p.identity, p.camera, p.clothes))
    return writer.finish()


def write_ltcc(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As LTCC: PNG images and lists of who changes clothes."""
    writer = Writer(folder, mask_kind="palette", extension=".png")
    in_three_folders(
        writer,
        cast,
        ("train", "query", "test"),
        lambda p: f"{p.identity:03d}_{p.clothes + 1}_c{p.camera + 1}_{p.number:06d}",
        lambda p, place: Labels(p.identity, p.camera + 1, p.clothes),  # noqa: ARG005
    )
    info = writer.tree.raw / "info"
    info.mkdir()
    (info / "cloth-change_id_test.txt").write_text("".join(f"{i}\n" for i in cast.test))
    (info / "cloth-unchange_id_test.txt").write_text("")
    return writer.finish()


def write_vc_clothes(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As VC-Clothes: names with dashes; cameras 2, 3 and 4, so that all protocols have images."""
    writer = Writer(folder, mask_kind="grey")
    in_three_folders(
        writer,
        cast,
        ("train", "query", "gallery"),
        lambda p: f"{p.identity:04d}-{p.camera + 2:02d}-{p.clothes + 1:02d}-{p.number + 1:02d}",
        lambda p, place: Labels(p.identity, p.camera + 2, p.clothes),  # noqa: ARG005
    )
    return writer.finish()


def write_celeb(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As Celeb-reID and its light version: neither cameras nor outfits in the names."""
    writer = Writer(folder, mask_kind="grey")
    numbers = itertools.count()
    in_three_folders(
        writer,
        cast,
        ("train", "query", "gallery"),
        lambda p: f"{p.identity}_{p.camera * PER_CAMERA + p.number + 1}_0",
        lambda p, place: Labels(p.identity, place - 1, next(numbers)),
    )
    return writer.finish()


def write_deepchange(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As DeepChange: lists with tracklets, and an image that no list names."""
    writer = Writer(folder, mask_kind="palette")
    lists: dict[str, list[str]] = {}
    places = {
        "train": "train-set",
        "val_query": "val-set-query",
        "val_gallery": "val-set-gallery",
        "query": "test-set-query",
        "gallery": "test-set-gallery",
    }
    for p in (*people(cast.train), *people((*cast.test, VALIDATION_PERSON))):
        kind = "query" if p.number == 0 else "gallery"
        split = "train" if p.identity in cast.train else kind
        split = f"val_{kind}" if p.identity == VALIDATION_PERSON else split
        tracklet = 100 * p.identity + 10 * p.camera + p.number
        name = f"P{p.identity:04d}_C{p.camera + 1:02d}_D{p.clothes:03d}_14h_{p.number:05d}"
        labels = Labels(p.identity, p.camera + 1, p.clothes, tracklet)
        path = writer.add(split, f"{places[split]}/{name}", p, labels)
        lists.setdefault(places[split], []).append(f"{path.rpartition('/')[2]},{tracklet}\n")
    for place, lines in lists.items():
        (writer.tree.raw / f"{place}-bbox.txt").write_text("".join(lines))
    unlisted = "train-set/P0001_C01_D000_14h_99999"
    write_plain(writer.tree.raw / f"{unlisted}.jpg", people(cast.train)[0].image)
    write_mask(writer.tree.masks / f"{unlisted}.png", people(cast.train)[0].mask, "palette")
    return writer.finish()


def write_person_folder(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """A user's own crops: folders of people, cameras and outfits from a table."""
    writer = Writer(folder, mask_kind="grey")
    in_three_folders(
        writer,
        cast,
        ("train", "query", "gallery"),
        lambda p: f"{p.identity}/crop {p.camera}{p.number}",
        lambda p, place: Labels(p.identity, p.camera, p.clothes),  # noqa: ARG005
    )
    lines = ["file,identity,camera,clothes\n"]
    for labels in writer.tree.labels.values():
        for name, of_image in labels.items():
            camera, clothes = ["door", "hall", "stairs"][of_image.camera], "ab"[of_image.clothes]
            lines.append(f"{name},,{camera},{clothes}\n")
    (writer.tree.raw / "metadata.csv").write_text("".join(lines))
    return writer.finish()


def _in_infrared(drawn: Drawn) -> Drawn:
    """The same picture in grey, as an infrared camera's file is."""
    return dataclasses.replace(drawn, image=drawn.image.convert("L").convert("RGB"))


def write_sysu_mm01(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As SYSU-MM01: folders of cameras, 3 and 6 infrared, and lists of people."""
    writer = Writer(folder, mask_kind="grey")
    for p in (*people(cast.train), *people(cast.test)):
        camera = 1 + PER_CAMERA * p.camera + p.number
        infrared = camera in (3, 6)
        split = "train" if p.identity in cast.train else "query" if infrared else "gallery"
        stem = f"cam{camera}/{p.identity:04d}/{p.number + 1:04d}"
        labels = Labels(p.identity, camera, modality=int(infrared))
        writer.add(split, stem, _in_infrared(p) if infrared else p, labels)
    lists = {"train": cast.train[:-1] or cast.train, "val": cast.train[-1:], "test": cast.test}
    for name, listed in lists.items():
        line = ",".join(map(str, listed)) + "\n"
        write(writer.tree.raw / f"exp/{name}_id.txt", line.encode())
    write_plain(writer.tree.raw / "cam1/0009/0001.jpg", people(cast.train)[0].image)
    scipy.io.savemat(
        writer.tree.raw / "exp/rand_perm_cam.mat", {"rand_perm_cam": sysu_mm01_draws()}
    )
    return writer.finish()


def sysu_mm01_draws(people: int = 10, images: int = 2, trials: int = 4) -> np.ndarray:
    """Cells by camera of cells by person, each with a row of image numbers for each trial."""
    rng = np.random.default_rng(5)
    draws = np.empty((6, 1), object)
    for camera in range(6):
        draws[camera, 0] = np.empty((people, 1), object)
        for person in range(people):
            orders = [1 + rng.permutation(images) for _ in range(trials)]
            draws[camera, 0][person, 0] = np.array(orders, np.uint8)
    return draws


def write_regdb(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As RegDB: folders of people in two modalities, and the lists of a trial."""
    writer = Writer(folder, mask_kind="binary", extension=".bmp")
    lists: dict[str, list[str]] = {}
    for p in (*people(cast.train), *people(cast.test)):
        trained, thermal = p.identity in cast.train, p.number == 1
        kind = "thermal" if thermal else "visible"
        split = "train" if trained else "gallery" if thermal else "query"
        stem = f"{kind.title()}/{p.identity}/front_{kind[0]}_{p.camera:05d}_{p.identity}"
        labels = Labels(p.identity, int(thermal), modality=int(thermal))
        name = writer.add(split, stem, _in_infrared(p) if thermal else p, labels)
        group = cast.train if trained else cast.test
        line = f"{name} {group.index(p.identity)}\n"
        lists.setdefault(f"{'train' if trained else 'test'}_{kind}_1", []).append(line)
    for name, lines in lists.items():
        write(writer.tree.raw / f"idx/{name}.txt", "".join(lines).encode())
    return writer.finish()


def write_llcm(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As LLCM: folders of people in two modalities, and lists."""
    writer = Writer(folder, mask_kind="grey")
    lists: dict[str, list[str]] = {}
    for p in (*people(cast.train), *people(cast.test)):
        trained, infrared = p.identity in cast.train, p.number == 1
        kind = "nir" if infrared else "vis"
        split = "train" if trained else "gallery" if infrared else "query"
        stem = f"{kind}/{p.identity:04d}/{p.identity:04d}_c{p.camera + 1:02d}_s185535_f7010_{kind}"
        labels = Labels(p.identity, p.camera + 1, modality=int(infrared))
        name = writer.add(split, stem, _in_infrared(p) if infrared else p, labels)
        group = cast.train if trained else cast.test
        line = f"{name} {group.index(p.identity)}\n"
        lists.setdefault(f"{'train' if trained else 'test'}_{kind}", []).append(line)
    for name, lines in lists.items():
        write(writer.tree.raw / f"idx/{name}.txt", "".join(lines).encode())
    return writer.finish()


def write_deskpro(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As DeskPro's tree of PRCC, faces and restored faces in the raw folder, some missing."""
    writer = Writer(folder, mask_kind="grey")
    folders = ("bounding_box_train", "query", "bounding_box_test")
    in_three_folders(
        writer,
        cast,
        tuple(f"imgs/{name}" for name in folders),
        lambda p: f"{p.identity:03d}_c{p.camera + 1}_{p.number:06d}",
        lambda p, place: Labels(p.identity, p.camera + 1),  # noqa: ARG005
    )
    (writer.tree.masks / "imgs").rename(writer.tree.raw / "mask")
    writer.tree.masks = writer.tree.raw / "mask"
    for number, (name, drawn) in enumerate(writer.tree.pictures.items()):
        if number % 6:  # The others look away.
            write_faces(writer.tree.raw, ("lr_face", "hr_face"), name.removeprefix("imgs/"), drawn)
    return writer.finish()


def write_market1501(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As Market-1501: distractors (person 0) in the gallery, and junk (person -1)."""
    writer = Writer(folder, mask_kind="grey")
    folders = ("bounding_box_train", "query", "bounding_box_test")
    in_three_folders(
        writer,
        cast,
        folders,
        lambda p: f"{p.identity:04d}_c{p.camera + 1}s1_{p.number:06d}_00",
        lambda p, place: Labels(p.identity, p.camera + 1),  # noqa: ARG005
    )
    p = people(cast.train)[0]
    writer.add("gallery", f"{folders[2]}/0000_c1s1_000151_01", p, Labels(-1, 1))
    write_plain(writer.tree.raw / folders[2] / "-1_c1s1_000401_03.jpg", p.image)
    write_mask(writer.tree.masks / folders[2] / "-1_c1s1_000401_03.png", p.mask, "grey")
    return writer.finish()


def write_personx(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As PersonX."""
    writer = Writer(folder, mask_kind="grey")
    in_three_folders(
        writer,
        cast,
        ("bounding_box_train", "query", "bounding_box_test"),
        lambda p: f"{p.identity:04d}_c{(3, 4, 8)[p.camera]}s1_{p.number:06d}",
        lambda p, place: Labels(p.identity, (3, 4, 8)[p.camera]),  # noqa: ARG005
    )
    return writer.finish()


def write_msmt17(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As MSMT17's second release: lists, and test people numbered from 0 again."""
    writer = Writer(folder, mask_kind="grey")
    lists: dict[str, list[str]] = {}
    for p in (*people(cast.train), *people(cast.test)):
        trained = p.identity in cast.train
        number = (cast.train if trained else cast.test).index(p.identity)
        place = "mask_train_v2" if trained else "mask_test_v2"
        if trained:
            split, name = "train", "val" if p.number else "train"
        else:
            split = name = "gallery" if p.number else "query"
        stem = f"{number:04d}/{number:04d}_{p.number:03d}_{p.camera + 1:02d}_0303morning_0015_0"
        labels = Labels(number if trained else 1041 + number, p.camera + 1)
        path = writer.add(split, f"{place}/{stem}", p, labels)
        lists.setdefault(name, []).append(f"{path.removeprefix(f'{place}/')} {number}\n")
    for name, lines in lists.items():
        write(writer.tree.raw / f"list_{name}.txt", "".join(lines).encode())
    return writer.finish()


def write_last(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As LaST: outfits in training alone, and a validation set."""
    writer = Writer(folder, mask_kind="grey")
    for p in people(cast.train):
        stem = f"train/{p.identity:06d}/{p.identity:06d}_{p.camera}_{p.number:03d}_{p.clothes}"
        writer.add("train", stem, p, Labels(p.identity, -1, p.clothes))
    for part, prefix, shown in (("test", "", cast.test), ("val", "val_", (VALIDATION_PERSON,))):
        for p in people(shown):
            name = f"{p.identity:06d}_{p.camera}_{p.number:03d}"
            split, place = ("gallery", f"{p.identity:06d}/") if p.number else ("query", "")
            stem = f"{part}/{split}/{place}{name}"
            writer.add(f"{prefix}{split}", stem, p, Labels(p.identity, -1))
    return writer.finish()


def write_nkup(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As NKUP: recording days for outfits."""
    writer = Writer(folder, mask_kind="grey")
    in_three_folders(
        writer,
        cast,
        ("bounding_box_train", "query", "bounding_box_test"),
        lambda p: f"{p.identity:05d}_D{p.clothes:02d}_C{p.camera + 1:02d}S01_{p.number:05d}",
        lambda p, place: Labels(p.identity, p.camera + 1, p.clothes),  # noqa: ARG005
    )
    return writer.finish()


def write_real28(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As Real28: queries and a gallery, nothing to train on."""
    writer = Writer(folder, mask_kind="grey", extension=".jpeg")
    for p in people(cast.test):
        split = "gallery" if p.number else "query"
        stem = f"{split}/{p.identity}_{p.camera + 1}_{p.clothes}_{p.number}"
        writer.add(split, stem, p, Labels(p.identity, p.camera + 1, p.clothes))
    return writer.finish()


def write_ccvid(folder: pathlib.Path, cast: Cast = CAST) -> RawTree:
    """As CCVID: lists of folders of frames."""
    writer = Writer(folder, mask_kind="grey")
    lists: dict[str, dict[str, str]] = {}
    tracklets = itertools.count(1)
    numbers: dict[str, int] = {}
    shown = [("train", p) for p in people(cast.train)]
    shown += [("query" if p.camera == 0 else "gallery", p) for p in people(cast.test)]
    for split, p in sorted(shown, key=lambda pair: ("train", "query", "gallery").index(pair[0])):
        session, camera = (1, p.camera + 1) if p.camera < 2 else (3, 1)
        tracklet = f"session{session}/{p.identity:03d}_{camera:02d}"
        number = numbers.setdefault(tracklet, 0) or next(tracklets)
        numbers[tracklet] = number
        lines = lists.setdefault(split, {})
        lines[tracklet] = f"{tracklet}\t{p.identity:03d}\tu{p.clothes}_l0_s0_c0_a0\n"
        labels = Labels(p.identity, camera + 12 * (session == 3), p.clothes, number)
        writer.add(split, f"{tracklet}/{p.number:05d}", p, labels)
    for split, lines in lists.items():
        write(writer.tree.raw / f"{split}.txt", "".join(lines.values()).encode())
    return writer.finish()


CONFIGS = {"regdb": "regdb/trial_1", "deskpro": "deskpro/prcc"}
"""What to prepare of data sets whose builders have configs."""

WRITERS = {
    "prcc": write_prcc,
    "ltcc": write_ltcc,
    "vc_clothes": write_vc_clothes,
    "celeb_reid": write_celeb,
    "celeb_reid_light": write_celeb,
    "deepchange": write_deepchange,
    "person_folder": write_person_folder,
    "sysu_mm01": write_sysu_mm01,
    "regdb": write_regdb,
    "llcm": write_llcm,
    "deskpro": write_deskpro,
    "market1501": write_market1501,
    "msmt17": write_msmt17,
    "personx": write_personx,
    "last": write_last,
    "nkup": write_nkup,
    "real28": write_real28,
    "ccvid": write_ccvid,
}
