# The training pipeline. Build it from the repository's root: docker build -f docker/training.Dockerfile -t training .
# For NVIDIA GPUs: --build-arg REQUIREMENTS=requirements/training-gpu.txt. The host provides the driver.
ARG PYTHON_VERSION=3.13
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-trixie

FROM ${BASE_IMAGE} AS requirements
# The tools that install and list packages stay in this stage.
ENV PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv
COPY requirements/build.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /build/tools && /build/tools/bin/pip install --require-hashes --requirement /build/build.txt
ARG REQUIREMENTS=requirements/training.txt
COPY ${REQUIREMENTS} /build/requirements.txt

FROM requirements AS installed
# Compiled here because the container cannot write: otherwise every start would compile all of TensorFlow's Python.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv venv --no-python-downloads --python python3 /opt/venv \
    && /build/tools/bin/uv pip install --python /opt/venv --require-hashes --link-mode copy --compile-bytecode \
        --requirements /build/requirements.txt

FROM installed AS packages
# Only compilers need TensorFlow's C++ headers (287 MB) and libclang (61 MB).
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv pip uninstall --python /opt/venv libclang \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include /opt/venv/.lock \
    && mkdir /opt/venv/share \
    && /build/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/share/sbom.cdx.json \
        /opt/venv/bin/python

FROM ${BASE_IMAGE}
# A number, because Kubernetes compares it with runAsNonRoot; a name, because some libraries look it up.
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home app
COPY --from=packages /opt/venv /opt/venv
# /tmp is the only writable directory; all others may be mounted read-only.
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRAINING_WORK=/tmp
WORKDIR /app
# All training locks, whichever is installed: they are part of the code version, from which a run's name follows.
COPY requirements/training*.txt requirements/
COPY service.toml ./
COPY mlplatform/*.py mlplatform/
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
# On SIGTERM the run saves a checkpoint and exits with 75.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "mlplatform", "train"]
# Last, because they differ in every build.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ARG TEMPLATE_VERSION=""
# Recorded in the manifest of every model.
ENV GIT_COMMIT=${REVISION}
LABEL org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.source=${SOURCE} \
      ml-service-template.version=${TEMPLATE_VERSION}
