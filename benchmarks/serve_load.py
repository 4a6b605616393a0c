"""Load on a served index: concurrent searches while images are added, judged by brute force.

    python benchmarks/serve_load.py                   # 200 searches at a time, 10,000 images added
    python benchmarks/serve_load.py --rows 1000000    # where faiss ends: memory and search times

Everything stays on the loopback address; features are random unit rows, the model an untrained one.
"""

import argparse
import http.client
import json
import pathlib
import resource
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "serve"))

from sicl_jax.retrieval.folder import View
from sicl_jax.retrieval.index import Entry, GalleryIndex


def unit_rows(count, size, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, size), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def entries(count, first=0):
    return [Entry(f"/crops/cam{n % 100}/{n}.jpg", 10, 20) for n in range(first, first + count)]


def percentiles(seconds):
    median, high = np.percentile(np.asarray(seconds) * 1000, [50, 99])
    return f"median {median:.1f} ms, 99th percentile {high:.1f} ms, {len(seconds)} searches"


def load(people: int, added: int, size: int, seconds: float) -> None:
    from serving import create, listening

    from sicl_jax import config as configs
    from sicl_jax import devices, methods
    from sicl_jax.inference import Model
    from sicl_jax.serve.gallery import image_id

    changes = ["--config.model.width=4", "--config.model.stage_sizes=(1, 1)"]
    changes.append("--config.model.pretrained=")
    method = methods.create(configs.load("sicl_demo", changes), {})
    weights = devices.put_replicated(method.initial_weights(0))
    model = Model(method, weights, pathlib.Path("untrained"))
    old, step = 2000, added // 10
    vectors = unit_rows(old + added, size)
    files = entries(old + added)
    number = {image_id(entry.path): row for row, entry in enumerate(files)}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "index"
        index = GalleryIndex(model.about(), View("rgb", False), size)
        index.add(files[:old], vectors[:old])
        index.save(folder)
        times, wrong, answers = [], [], []
        ended = threading.Event()

        def add():
            for first in range(old, old + added, step):
                changed = GalleryIndex.open(folder)
                changed.add(files[first : first + step], vectors[first : first + step])
                changed.save(folder)
                time.sleep(seconds / 10)
            time.sleep(2)
            ended.set()

        def search(seed, port):
            rng = np.random.default_rng(seed)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            headers = {"X-Sicl-Jax": "1", "Content-Type": "application/json"}
            while not ended.is_set():
                row = int(rng.integers(old))
                body = json.dumps({"same": [image_id(files[row].path)], "top": 20})
                start = time.perf_counter()
                connection.request("POST", "/api/search", body, headers)
                answer = connection.getresponse()
                data = json.loads(answer.read())
                times.append(time.perf_counter() - start)
                if answer.status != 200:
                    wrong.append(data)
                    return
                found = [number[hit["id"]] for hit in data["results"]]
                answers.append((row, found))

        def is_right(row, found):
            """Whether it is brute force's answer over what was there after some addition."""
            similarity = vectors @ vectors[row]
            similarity[row] = -2
            for count in range(old, old + added + 1, step):
                # Other programs' products differ in the last digits: compare similarities.
                best = np.partition(similarity[:count], -20)[-20:]
                if max(found) < count and np.allclose(
                    np.sort(similarity[found]), np.sort(best), atol=1e-5
                ):
                    return True
            return False

        with create(model, folder) as application, listening(application) as address:
            port = int(address.rstrip("/").rpartition(":")[2])
            threads = [threading.Thread(target=search, args=(n, port)) for n in range(people)]
            threads.append(threading.Thread(target=add))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/api/health")
            held = json.loads(connection.getresponse().read())["images"]
    checked = answers[:: max(1, len(answers) // 2000)]
    wrong += [found for row, found in checked if not is_right(row, found)]
    print(f"{people} at a time, {added} images added to {old}, {size} dimensions")
    print(f"{percentiles(times)}; wrong of {len(checked)} judged: {len(wrong)}")
    print(f"held at the end: {held}")
    if wrong or held != old + added:
        sys.exit(f"failed: {wrong[:1]}")


def rows(count: int, size: int) -> None:
    """Memory and search times of one large index."""
    vectors = unit_rows(count, size)
    index = GalleryIndex({"workdir": "w", "step": 1, "model": "0"}, View("rgb", False), size)
    start = time.perf_counter()
    index.add(entries(count), vectors)
    print(f"{count} rows, {size} dimensions, exact: {index.is_exact}")
    print(f"adding them to an empty index: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    _ = index.facts, index.rows
    print(f"facts and places: {time.perf_counter() - start:.1f} s")
    from sicl_jax.retrieval.facts import Where

    queries = unit_rows(100, size, seed=1)
    for words, where in (("all", Where()), ("one camera of 100", Where(frozenset({"cam7"})))):
        times = []
        for query in queries[: 100 if where == Where() else 20]:
            start = time.perf_counter()
            index.find(query[None], 60, where=where)
            times.append(time.perf_counter() - start)
        print(f"search, {words}: {percentiles(times)}")
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        index.save(pathlib.Path(place) / "index")
        saved = time.perf_counter() - start
        start = time.perf_counter()
        index = GalleryIndex.open(pathlib.Path(place) / "index")
        print(f"saving {saved:.1f} s, opening {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"vectors {vectors.nbytes / 2**30:.2f} GiB; peak of this process {peak:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--added", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=20.0, help="at least so long")
    parser.add_argument("--rows", type=int, help="measure an index of so many rows instead")
    given = parser.parse_args()
    if given.rows:
        rows(given.rows, given.size)
    else:
        load(given.people, given.added, given.size, given.seconds)


if __name__ == "__main__":
    main()
