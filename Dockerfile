# sicl_jax on a machine with an NVIDIA GPU; docs/several_gpus.md says how to run it.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home sicl

COPY . /opt/sicl_jax
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir -c /opt/sicl_jax/constraints.txt '/opt/sicl_jax[cuda]'

ENV PATH=/opt/venv/bin:$PATH
USER sicl
WORKDIR /work
ENTRYPOINT ["sicl-jax"]
