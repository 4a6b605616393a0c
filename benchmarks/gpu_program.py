"""The training call as XLA compiles it for H100 GPUs, looked at without one.

    pip install -c constraints.txt '.[cuda]'
    python benchmarks/gpu_program.py [--config sicl_prcc] [--batch_size 64] [--gpus 1]
        [--images 17896] [--identities 150] [--hlo FILE] [--config.FIELD=VALUE]...

Prints one JSON line: memory, kernels and bytes of a step by kind, and its bytes over the memory's
rate beside its model FLOPs over the cores'. An estimate, not a measurement: kernels that do not
reach those rates, and gaps between them, come on top; what a kernel still finds in the L2 cache
comes off. Bytes of kernels that move more than the whole cache are told apart.
"""

import argparse
import collections
import json
import os
import pathlib
import time

# Before JAX is imported: there is no GPU, and its plugin is to be loaded nevertheless.
os.environ |= {"JAX_PLATFORMS": "cpu,cuda", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}

import hlo_traffic
import jax
import jax.numpy as jnp
import networks
import numpy as np
import rates
from jax.experimental import topologies

from sicl_jax import config as configs
from sicl_jax import devices, methods
from sicl_jax.data.dataset import Split
from sicl_jax.methods.base import Method
from sicl_jax.methods.source import abstract_state
from sicl_jax.methods.state import TrainState, Weights
from sicl_jax.training import steps

# H100 SXM5: what XLA wants to know of it, and the rates on its data sheet.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_BYTES_PER_SECOND = 3.35e12
_CACHE_BYTES = 52_428_800
_BFLOAT16_PER_SECOND = 989e12


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sicl_prcc")
    parser.add_argument("--batch_size", type=int, help="of all GPUs; else the config's")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--images", type=int, default=17_896, help="training images; PRCC's")
    parser.add_argument("--identities", type=int, default=150, help="among them; PRCC's")
    parser.add_argument("--hlo", type=pathlib.Path, help="write the optimised program here")
    arguments, overrides = parser.parse_known_args()
    if arguments.batch_size:
        overrides.append(f"--config.batch_size={arguments.batch_size}")
    overrides = ["--config.model.pretrained=", *overrides]
    jax.config.update("jax_num_cpu_devices", arguments.gpus)
    print(json.dumps(measure(configs.load(arguments.config, overrides), arguments)))


def use_gpus(count: int) -> None:
    """Puts GPUs that are not there into the mesh."""
    gpus = topologies.get_topology_desc("", "cuda", target_config=_H100, topology=f"1x1x{count}")
    axes = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.Mesh(np.array(gpus.devices), (devices.AXIS,), axis_types=axes)
    devices.mesh = lambda: mesh


def described(config, arguments) -> tuple[Method, Split, TrainState]:
    """The method on the GPUs, data, and the state's shapes, types and shardings there.

    No array can lie on GPUs that are not there: the structure is that of a state on as many CPUs.
    """
    method = methods.create(config)
    per_identity = -(-arguments.images // arguments.identities)
    data = networks.random_split(method, arguments.images, per_identity=per_identity, noise=False)
    sizes = method.measure(data, None)
    state = abstract_state(method.sized(sizes), data)
    state = networks.without_host(method, state, arguments.identities)
    use_gpus(arguments.gpus)

    def moved(leaf):
        sharding = jax.sharding.NamedSharding(devices.mesh(), leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    # Made anew: on GPUs it computes in another type.
    return methods.create(config).sized(sizes), data, jax.tree.map(moved, state)


def measure(config, arguments) -> dict:
    """What the compiled program needs."""
    steps.check_batch_size(config.batch_size)
    method, data, state = described(config, arguments)
    begin = time.perf_counter()
    lowered = steps.lower_train_call(method, state, data, "cuda")
    compiled = lowered.compile()
    seconds = time.perf_counter() - begin
    if arguments.hlo:
        arguments.hlo.write_text(compiled.as_text())
    program = hlo_traffic.computations(compiled.as_text())
    number, moved, uncached = collections.Counter(), collections.Counter(), 0
    for kind, size in hlo_traffic.kernels(hlo_traffic.loop_of_steps(program), program):
        number[kind] += 1
        moved[kind] += size
        uncached += size if size > _CACHE_BYTES else 0
    flops = model_flops(method, config) / arguments.gpus
    memory = compiled.memory_analysis()
    return {
        "benchmark": "gpu_program",
        "device": devices.mesh().devices.flat[0].device_kind,
        "gpus": arguments.gpus,
        "config": arguments.config,
        "batch_size": config.batch_size,
        "images": arguments.images,
        "compile_seconds": round(seconds, 1),
        "peak_gb": round(memory.peak_memory_in_bytes / 1e9, 2),
        "state_copied_gb": round(
            (memory.output_size_in_bytes - memory.alias_size_in_bytes) / 1e9, 3
        ),
        "kernels": dict(number.most_common()),
        "gigabytes": {kind: round(size / 1e9, 2) for kind, size in moved.most_common()},
        "kernels_of_a_step": number.total(),
        "gigabytes_of_a_step": round(moved.total() / 1e9, 2),
        "teraflops_of_a_step": round(flops / 1e12, 2),
        "gigabytes_beyond_cache": round(uncached / 1e9, 2),
        "ms_for_bytes": round(1e3 * moved.total() / _BYTES_PER_SECOND, 2),
        "ms_for_bytes_beyond_cache": round(1e3 * uncached / _BYTES_PER_SECOND, 2),
        "ms_for_flops": round(1e3 * flops / _BFLOAT16_PER_SECOND, 2),
    }


def model_flops(method, config) -> int:
    """FLOPs of a step's encoders: three times those of the forward pass."""
    images = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in networks.inputs(method, config.batch_size).items()
    }
    weights = Weights.of(method.abstract_model())
    return 3 * rates.matrix_flops(
        lambda w, x: networks.forward(method, method.model(w), x), weights, images
    )


if __name__ == "__main__":
    main()
