# Made by `bash ci/run matrix` from ci/matrix.toml: edit that, not this.
#
# torch 2.13.0, jax 0.10.2, Python 3.11, self-hosted linux gpu
#
#     docker build -f ci/containers/cuda.Dockerfile -t conformance:cuda .
#     docker run --rm --gpus all --shm-size 2g -v "$PWD/results:/results" conformance:cuda
FROM python:3.11-slim-bookworm
# Inductor compiles with a C++ compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# The wheels bring CUDA; the driver comes from the host, by the NVIDIA container toolkit.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /conformance
COPY . .
RUN bash ci/run matrix --job gpu --setup
ENTRYPOINT ["bash", "ci/run", "matrix", "--job", "gpu", "--to", "/results"]
