"""Load on a served index: concurrent searches while images are added, judged by brute force.

    python benchmarks/serve_load.py                   # 200 searches at a time, 10,000 images added
    python benchmarks/serve_load.py --rows 1000000    # where faiss ends: memory and search times

Everything stays on the loopback address; features are random unit rows, the model an untrained one.
"""

import argparse
import http.client
import itertools
import json
import pathlib
import resource
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "serve"))

from sicl_jax.retrieval.facts import Where
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
    """Memory and times of one large index, as a JSON line."""
    told = {"rows": count, "dimensions": size}

    def timed(name, work):
        start = time.perf_counter()
        result = work()
        told[name] = round(time.perf_counter() - start, 2)
        return result

    def searched(name, queries, where):
        times = []
        for query in queries:
            start = time.perf_counter()
            index.find(query[None], 60, where=where)
            times.append(1000 * (time.perf_counter() - start))
        told[name] = [round(float(p), 1) for p in np.percentile(times, [50, 99])] + [len(times)]

    more = count // 100
    vectors, files = unit_rows(count, size), entries(count)
    index = GalleryIndex({"workdir": "w", "step": 1, "model": "0"}, View("rgb", False), size)
    timed("seconds to add all to an empty index", lambda: index.add(files, vectors))
    told["exact"] = index.is_exact
    del vectors
    timed("seconds for facts and places", lambda: (index.facts, index.rows))
    queries = unit_rows(100, size, seed=1)
    searched("search ms (median, 99th percentile, searches)", queries, Where())
    camera = Where(frozenset({"cam7"}))
    searched("search in one camera of 100 ms (the same)", queries[:20], camera)
    told["GiB with one index"] = peak()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place) / "index"
        timed("seconds to save", lambda: index.save(folder))
        told["GiB on disk"] = round(sum(f.stat().st_size for f in folder.iterdir()) / 2**30, 2)

        def add():  # As `index` does; the searches go on with what is in memory, as in a server.
            changed = timed("seconds to open while searching", lambda: GalleryIndex.open(folder))
            files = entries(more, count)
            timed(f"seconds to add {more} while searching", lambda: changed.add(files, added))
            timed("seconds to save while searching", lambda: changed.save(folder))

        added = unit_rows(more, size, seed=2)
        adds = threading.Thread(target=add)
        adds.start()
        until_added = itertools.takewhile(lambda _: adds.is_alive(), itertools.cycle(queries))
        searched("search while adding ms (the same)", until_added, Where())
        adds.join()
    told["GiB with a second index"] = peak()
    print(json.dumps(told))


def peak():
    """GiB that this process has had at most."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


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
