"""Search, marks, groups and export over HTTP."""

import csv
import io
import json
import threading
import zipfile

import numpy as np
import pytest
from serving import client_of
from test_serve_load import entries, unit_rows

from sicl_jax.data.dataset import load_dataset
from sicl_jax.data.prepare import Request, prepare
from sicl_jax.retrieval import people
from sicl_jax.retrieval.facts import Where, camera_reader
from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import GalleryIndex
from sicl_jax.retrieval.searching import PUSH, search
from sicl_jax.serve.gallery import image_id
from sicl_jax.serve.thumbnails import Thumbnails


def images(client, **where):
    answer = client.post("/api/images", json={"where": where, "top": 100})
    assert answer.status_code == 200, answer.text
    return answer.json()["images"]


def find(client, **asked):
    answer = client.post("/api/search", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def do(client, path, **asked):
    answer = client.post(f"/api/{path}", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(shown):
    return [image["id"] for image in shown]


# ---- search ----------------------------------------------------------------------------------


def test_it_ranks_as_the_command_does(client, model, index_folder, crops):
    file = crops / "cam1" / "p0_20260310_080512.png"
    index = GalleryIndex.open(index_folder)
    (wanted,) = search(index, model, file, top=9)
    found = find(client, same=[image_id(str(file))], top=9)
    assert ids(found) == [image_id(hit.path) for hit in wanted.hits]
    uploaded = client.post(
        "/api/search?top=10", content=file.read_bytes(), headers={"content-type": "image/png"}
    ).json()["results"]
    assert ids(uploaded)[0] == image_id(str(file))  # An upload is no image of the index.
    assert ids(uploaded)[1:] == ids(found)
    np.testing.assert_allclose(
        [image["similarity"] for image in found], [h.similarity for h in wanted.hits], atol=1e-4
    )


def test_facts_and_filters(client):
    everything = images(client)
    assert {image["camera"] for image in everything} == {"cam1", "cam2"} and len(everything) == 24
    assert everything[0]["time"].startswith("2026-03-1") and everything[0]["folder"] == "cam1"
    facets = client.get("/api/facets").json()
    assert facets["cameras"] == facets["folders"] == ["cam1", "cam2"]
    query = everything[0]["id"]
    for where, passes in (
        ({"cameras": ["cam2"]}, lambda image: image["camera"] == "cam2"),
        ({"folders": ["cam1"]}, lambda image: image["folder"] == "cam1"),
        ({"since": 1773302400}, lambda image: image["time"] >= "2026-03-12T08"),
        ({"until": 1773302400}, lambda image: image["time"] < "2026-03-12T08"),
        ({"modalities": ["infrared"]}, lambda image: False),
    ):
        expected = {i["id"] for i in everything if passes(i)}
        assert set(ids(images(client, **where))) == expected
        assert set(ids(find(client, same=[query], where=where))) == expected - {query}


def test_marks_steer_by_the_formula_and_are_kept(client, serve, index_folder):
    index = GalleryIndex.open(index_folder)
    everything = ids(images(client))
    same, other = everything[:2], everything[10:12]
    features = {image_id(e.path): f for e, f in zip(index.entries, index.features(), strict=True)}
    pull = np.mean([features[i] for i in same], 0) - PUSH * np.mean([features[i] for i in other], 0)
    rest = [i for i in everything if i not in (*same, *other)]
    order = sorted(rest, key=lambda i: -(features[i] @ pull))
    assert ids(find(client, same=same, not_same=other)) == order
    person = do(client, "mark", images=[same[1]], mark="same", shown=[same[0]])
    assert ids(person["images"]) == same and person["checked"]
    person = do(client, "mark", person=person["id"], images=other, mark="not_same")
    assert ids(find(client, person=person["id"])) == order
    again = client_of(serve()).get(f"/api/people/{person['id']}").json()
    assert again == person
    undone = do(client, "mark", person=person["id"], images=[other[0]], mark=None)
    assert ids(undone["not_same"]) == [other[1]]


def test_features_are_batched_over_concurrent_requests(client, crops):
    files = [file.read_bytes() for file in sorted(crops.rglob("*.png"))[:12]]
    alone = [client.post("/api/embed", content=file).json()["feature"] for file in files]
    found = {}

    def embed(number):
        answer = client.post("/api/embed", content=files[number])
        found[number] = answer.json()["feature"]

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, feature in enumerate(alone):
        np.testing.assert_allclose(found[number], feature, atol=1e-5)
    assert max(client.get("/api/health").json()["batches"]) > 1


def test_a_query_string_is_understood_or_refused(client, crops):
    picture = (crops / "cam1" / "p0_20260310_080512.png").read_bytes()
    headers = {"content-type": "image/png"}
    asked = "camera=cam2&folder=cam1&folder=cam2&since=1773302400&top=50"
    found = client.post(f"/api/search?{asked}", content=picture, headers=headers)
    assert {image["camera"] for image in found.json()["results"]} == {"cam2"}
    assert min(image["time"] for image in found.json()["results"]) >= "2026-03-12T08"
    for path in ("search?cameras=cam2", "search?where=cam2", "embed?top=3"):
        answer = client.post(f"/api/{path}", content=picture, headers=headers)
        assert answer.status_code == 400 and "unknown parameter" in answer.json()["error"]
    assert client.post("/api/search?top=3", json={}).status_code == 400
    assert client.get("/api/health?all=1").status_code == 400
    described = client.get("/api/openapi.json").json()["paths"]["/api/search"]["post"]
    names = [each["name"] for each in described["parameters"] if each["in"] == "query"]
    assert {"camera", "folder", "only", "since", "until", "top", "modality"} == {*names}


# ---- people ----------------------------------------------------------------------------------


def test_groups_merge_split_and_marks_outlive_them(client):
    everything = ids(images(client))
    grouped = do(client, "group", k1=5, eps=0.6)
    assert grouped["total"] >= 2 and not any(p["checked"] for p in grouped["people"])
    a, b = grouped["people"][:2]
    merged = do(client, "merge", people=[a["id"], b["id"]])
    assert merged["count"] == a["count"] + b["count"] and merged["checked"]
    assert client.get(f"/api/people/{b['id']}").status_code == 404
    moved = ids(merged["images"])[:1]
    new = do(client, "split", person=a["id"], images=moved)
    assert ids(new["images"]) == moved and new["id"] not in (a["id"], b["id"])
    assert do(client, "edit", person=a["id"], name="Anna")["name"] == "Anna"
    stranger = next(i for i in everything if i not in ids(merged["images"]))
    do(client, "mark", person=a["id"], images=[stranger], mark="not_same")
    again = do(client, "group", k1=5, eps=0.84)
    kept = client.get(f"/api/people/{a['id']}").json()
    # No guess becomes part of whom somebody has checked; it says whom it is like.
    assert set(ids(kept["images"])) == set(ids(merged["images"])) - set(moved)
    assert kept["name"] == "Anna" and not kept["like"]
    like = [p for p in again["people"] if p["like"] == a["id"]]
    assert like and not any(p["checked"] for p in like)
    assert stranger not in [i for p in like for i in ids(do_person(client, p["id"])["images"])]
    joined = do(client, "merge", people=[a["id"], like[0]["id"]])
    assert joined["count"] == kept["count"] + like[0]["count"] and joined["name"] == "Anna"
    held = client.post("/api/people", json={"top": 100}).json()["people"]
    owned = [i for p in held for i in ids(do_person(client, p["id"])["images"])]
    assert len(owned) == len(set(owned))  # An image is one person's at most.
    assert do(client, "forget", person=a["id"]) == {"forgotten": a["id"]}
    assert client.get(f"/api/people/{a['id']}").status_code == 404


def do_person(client, number):
    return client.get(f"/api/people/{number}").json()


def test_an_image_moves_to_who_is_marked_last(client):
    a, b, c = ids(images(client))[:3]
    first = do(client, "mark", images=[a, b], mark="same")
    second = do(client, "mark", images=[b, c], mark="same")
    assert ids(do_person(client, first["id"])["images"]) == [a]
    assert ids(second["images"]) == [b, c]


def test_exports_are_read_by_the_commands(client, tmp_path):
    everything = images(client)
    assert client.get("/api/export/people.zip").status_code == 400  # Nobody is marked yet.
    for start in (0, 12):
        do(client, "mark", images=ids(everything[start : start + 3]), mark="same")
    do(client, "edit", person=1, name="=danger()")
    answer = client.get("/api/export/people.csv")
    assert answer.headers["content-disposition"].endswith('"people.csv"')
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["person"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert rows[0]["name"] == "'=danger()"
    (tmp_path / "people.csv").write_text(answer.text)
    assert set(people.read(tmp_path / "people.csv").values()) == {1, 2}
    answer = client.get("/api/export/people.zip")
    assert answer.headers["x-left-out"] == "0"
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path / "raw")
    prepare(Request("person_folder", tmp_path / "data", raw=tmp_path / "raw"))
    labels = load_dataset("person_folder", tmp_path / "data").split("train").labels
    assert labels["identity"].tolist() == [0] * 3 + [1] * 3
    assert labels["camera"].tolist() == [0] * 3 + [1] * 3


def test_the_log_says_who_asked_for_what(client, index_folder):
    image = images(client)[0]
    find(client, same=[image["id"]], where={"cameras": ["cam1"]})
    client.get("/api/pictures/large/" + image["id"])
    lines = (index_folder / "audit.jsonl").read_text().splitlines()
    assert oct((index_folder / "audit.jsonl").stat().st_mode)[-3:] == "600"
    asked = [json.loads(line) for line in lines]
    assert [line["action"] for line in asked] == ["images", "search", "picture"]
    assert asked[1]["who"] == "local" and asked[1]["time"] > "2026"
    assert asked[1]["asked"]["same"][0].endswith(image["name"])
    assert asked[1]["asked"]["where"] == {"cameras": ["cam1"]}


def test_thumbnails_are_made_once_and_go_with_their_images(client, index_folder):
    image = images(client)[0]
    first = client.get(f"/api/pictures/small/{image['id']}")
    assert first.headers["content-type"] == "image/jpeg"
    (file,) = (index_folder / "thumbnails").rglob("*.jpg")
    file.write_bytes(b"made once")
    assert client.get(f"/api/pictures/small/{image['id']}").content == b"made once"
    assert Thumbnails(index_folder).forget_others({image["id"]}) == 0
    assert Thumbnails(index_folder).forget_others(set()) == 1 and not file.exists()


def test_filters_are_exact_past_the_flat_limit():
    model = {"workdir": "w", "step": 1, "model": "0"}
    rows = unit_rows(2000, 16)
    index = GalleryIndex(model, View("rgb", False), 16)
    index.add(entries(2000), rows, flat_limit=1000)
    assert not index.is_exact
    where = Where(cameras=frozenset({"cam7"}))
    passed = index.facts.mask(where)
    assert passed.sum() == 20
    (hits,) = index.find(rows[:1], 50, where=where, without=[{index.entries[7].path}])
    order = [row for row in np.argsort(-(rows @ rows[0])) if passed[row] and row != 7]
    assert [hit.path for hit in hits] == [index.entries[row].path for row in order]
    np.testing.assert_array_equal(index.features_of([index.entries[5].path])[0], rows[5])


@pytest.mark.parametrize(
    ("pattern", "path", "camera"),
    [
        (None, "/x/cam2/0002_c3s1_000451.jpg", "cam2"),
        (None, "/x/y/0002_c3s1_000451_03.jpg", "c3"),
        (None, "/x/y/plain.jpg", ""),
        ("{camera}/*/*", "/real/test/A/001/a.jpg", "A"),
        ("*_{camera}_*.jpg", "/real/12_door_3.jpg", "door"),
        ("{camera}/*/*.png", "/real/test/A/001/a.jpg", ""),
    ],
)
def test_cameras_in_paths(pattern, path, camera):
    assert camera_reader(pattern)(path) == camera
