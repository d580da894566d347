# Made by `bash ci/run matrix` from ci/matrix.toml: edit that, not this.
#
# torch 2.13.0, jax 0.10.2, Python 3.11, ubuntu-22.04
#
#     docker build -f ci/containers/cpu.Dockerfile -t conformance:cpu .
#     docker run --rm --shm-size 2g -v "$PWD/results:/results" conformance:cpu
FROM python:3.11-slim-bookworm
# Inductor compiles with a C++ compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
WORKDIR /conformance
COPY . .
RUN bash ci/run matrix --job pinned-ubuntu-22.04 --setup
ENTRYPOINT ["bash", "ci/run", "matrix", "--job", "pinned-ubuntu-22.04", "--to", "/results"]
