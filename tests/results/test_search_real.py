"""Search among real photographs, by people who have changed their clothes."""

import json


def test_queries_in_other_clothes(sicl, run_folder, real_photographs, tmp_path):
    people = real_photographs / "prcc" / "rgb" / "test"
    words = ("--workdir", run_folder, "--checkpoint", "latest", "--quiet")
    code, _, err = sicl("index", *words, "--images", people / "A", "--index", tmp_path / "index")
    assert code == 0, err
    page = tmp_path / "page.html"
    code, out, err = sicl(
        "search", "--index", tmp_path / "index", "--query", people / "C", "--json", "--quiet",
        "--page", page, "--by_folder",
    )  # fmt: skip
    assert code == 0, err
    results = json.loads(out)["results"]
    assert len(results) == len(list((people / "C").rglob("*.jpg")))
    assert all(len(result["hits"]) == 10 for result in results)
    # Six people: chance is a sixth. The walk and the build of some are told even so early.
    hits = [
        hit["file"].split("/")[-2] == result["query"].split("/")[-2]
        for result in results
        for hit in result["hits"]
    ]
    assert sum(hits) / len(hits) > 1 / 6
    assert "same person;" in page.read_text()
