# The pipeline, from the repository's root: docker build -f docker/training.Dockerfile -t training .
# With CUDA, where it was asked for: --build-arg REQUIREMENTS=requirements/training-gpu.txt; the driver is the host's.
ARG PYTHON_VERSION=3.13
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-trixie

FROM ${BASE_IMAGE} AS requirements
# What installs and lists the packages stays behind in this stage.
ENV PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv
COPY requirements/build.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /build/tools && /build/tools/bin/pip install --require-hashes --requirement /build/build.txt
ARG REQUIREMENTS=requirements/training.txt
COPY ${REQUIREMENTS} /build/requirements.txt

FROM requirements AS installed
# Compiled here, as nothing can be written where it runs: otherwise every start compiles all of TensorFlow's Python.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv venv --no-python-downloads --python python3 /opt/venv \
    && /build/tools/bin/uv pip install --python /opt/venv --require-hashes --link-mode copy --compile-bytecode \
        --requirements /build/requirements.txt

FROM installed AS packages
# TensorFlow's C++ headers (287 MB) and libclang (61 MB) are for compilers.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv pip uninstall --python /opt/venv libclang \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include /opt/venv/.lock \
    && mkdir /opt/venv/share \
    && /build/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/share/sbom.cdx.json \
        /opt/venv/bin/python

FROM ${BASE_IMAGE}
# By number, as Kubernetes compares it with runAsNonRoot; with a name, as some libraries ask for one.
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home app
COPY --from=packages /opt/venv /opt/venv
# /tmp is the one place to write; the rest may be mounted read-only.
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRAINING_WORK=/tmp
WORKDIR /app
# Every lock of the training, whichever is installed: they are part of the version of the code, which names a run.
COPY requirements/training*.txt requirements/
COPY service.toml ./
COPY mlplatform/__init__.py mlplatform/
COPY mlplatform/config mlplatform/config
COPY mlplatform/store mlplatform/store
COPY mlplatform/contract mlplatform/contract
COPY mlplatform/telemetry mlplatform/telemetry
COPY mlplatform/reporting mlplatform/reporting
COPY mlplatform/data mlplatform/data
COPY mlplatform/runtime mlplatform/runtime
COPY mlplatform/training mlplatform/training
COPY model model
USER 10001:10001
# The run saves a checkpoint and ends with 75.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "mlplatform.training"]
# Last, as they differ in every build.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ARG TEMPLATE_VERSION=""
# Recorded in the manifest of each model.
ENV GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.source=${SOURCE} \
      ml-service-template.version=${TEMPLATE_VERSION}
