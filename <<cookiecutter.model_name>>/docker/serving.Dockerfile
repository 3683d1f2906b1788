# The server with a published model in it, from the repository's root:
#   docker build -f docker/serving.Dockerfile --build-arg MODEL=store/models/VERSION -t serving .
# What computes the model, as [serving] runtime says: --build-arg RUNTIME=litert; by itself tensorflow.
ARG PYTHON_VERSION=3.13
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-trixie
ARG RUNTIME=tensorflow

FROM ${BASE_IMAGE} AS tools
# What installs and lists the packages stays behind in this stage.
ENV PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv
COPY requirements/build.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /build/tools && /build/tools/bin/pip install --require-hashes --requirement /build/build.txt

FROM tools AS tensorflow-requirements
COPY requirements/serving.txt /build/requirements.txt

FROM tools AS litert-requirements
COPY requirements/serving-litert.txt /build/requirements.txt

FROM ${RUNTIME}-requirements AS installed
# Compiled here, as nothing can be written where it runs: otherwise every start compiles all of TensorFlow's Python.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv venv --no-python-downloads --python python3 /opt/venv \
    && /build/tools/bin/uv pip install --python /opt/venv --require-hashes --link-mode copy --compile-bytecode \
        --requirements /build/requirements.txt

FROM installed AS litert-packages

FROM installed AS tensorflow-packages
# TensorFlow's C++ headers (287 MB) and libclang (61 MB) are for compilers. The others (80 MB) nothing here imports but
# TensorFlow, which does without: 560 modules fewer to load at every start, and no Keras that could load a file.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv pip uninstall --python /opt/venv libclang google-pasta grpcio h5py keras markdown-it-py mdurl \
        namex optree pygments rich setuptools wheel \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include

FROM ${RUNTIME}-packages AS packages
RUN rm /opt/venv/.lock \
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
    SERVING_HOST=0.0.0.0 \
    SERVING_MODEL=/model
WORKDIR /app
COPY service.toml ./
COPY mlplatform/__init__.py mlplatform/
COPY mlplatform/config mlplatform/config
COPY mlplatform/store mlplatform/store
COPY mlplatform/contract mlplatform/contract
COPY mlplatform/telemetry mlplatform/telemetry
COPY mlplatform/ghost mlplatform/ghost
COPY mlplatform/runtime mlplatform/runtime
COPY mlplatform/serving mlplatform/serving
USER 10001:10001
# The server answers on for a while, then ends when the last request is answered.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "mlplatform.serving.health"]
ENTRYPOINT ["python", "-m", "mlplatform.serving"]
# What is installed decides, whatever service.toml says.
ARG RUNTIME
ENV SERVING_RUNTIME=${RUNTIME}
# The model after the code: a new one makes this layer anew and nothing else. A damaged one makes no image, nor one that
# the runtime cannot compute.
ARG MODEL
COPY ${MODEL} /model/
RUN python -m mlplatform.serving.model.verify /model --runtime "${RUNTIME}"
# Last, as they differ in every build.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ARG TEMPLATE_VERSION=""
LABEL org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.source=${SOURCE} \
      ml-service-template.version=${TEMPLATE_VERSION}
