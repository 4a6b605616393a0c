"""faiss, numba and XLA at work in one process, side by side, without a deadlock."""

import subprocess
import sys

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
import jax, jax.numpy as jnp
import numpy as np
from sicl_jax.clustering import cluster

rows = np.random.default_rng(0).standard_normal((1500, 32)).astype(np.float32)

@jax.jit
def busy(x):
    return jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x.T @ x / 1500), x)

def search(engine):
    return cluster(rows, search=engine).labels.tolist()

with ThreadPoolExecutor(4) as threads:
    device = [threads.submit(lambda: busy(jnp.asarray(rows)).block_until_ready()) for _ in range(4)]
    host = [threads.submit(search, engine) for engine in ("faiss", "jax", "faiss", "ivf") * 2]
    results = [future.result() for future in host]
    [future.result() for future in device]
assert results[0] == results[2] == results[4] == results[6]
assert results[1] == results[5]
print("alive")
"""


def test_libraries_live_together():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "alive", done.stderr
