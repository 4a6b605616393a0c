"""A full training step against the encoders alone, and against the same step fed from the host.

    python benchmarks/train_step.py [--config sicl_demo] [--batch_size 64] [--devices 2]
        [--profile DIR] [--config.FIELD=VALUE]...

Prints one JSON line. The three take turns in one run:

- `floor`: forward and backward of the two encoders on random input that lies on the device;
- `step`: the training call as the loop makes it, metrics fetched after every call;
- `host_fed`: the same with images that stay on the host.

Images are random; the pseudo-labels are made up, eight images each.
"""

import argparse
import json
import os
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="sicl_demo")
    parser.add_argument("--batch_size", type=int, help="if not the config's")
    parser.add_argument("--images", type=int, default=2048, help="training images")
    parser.add_argument("--calls", type=int, default=0, help="calls of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--devices", type=int, help="GPUs to use, or CPU devices to simulate")
    parser.add_argument("--profile", type=pathlib.Path, help="write a trace of two calls here")
    arguments, overrides = parser.parse_known_args()
    if arguments.devices:
        limit_devices(arguments.devices)

    from step_speed import measure  # Imports JAX, which looks for devices as it starts.

    from sicl_jax import config as configs

    if arguments.batch_size:
        overrides.append(f"--config.batch_size={arguments.batch_size}")
    print(json.dumps(measure(configs.load(arguments.config, overrides), arguments)))


def limit_devices(count: int) -> None:
    """Has JAX, not yet imported, see so many devices."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(count)))
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={count}"


if __name__ == "__main__":
    main()
