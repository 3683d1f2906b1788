# The server with one published model. Build it from the repository's root:
#   docker build -f docker/serving.Dockerfile --build-arg MODEL=store/models/VERSION -t serving .
# --build-arg RUNTIME=litert selects LiteRT, onnx selects ONNX Runtime; the default is tensorflow.
ARG PYTHON_VERSION=3.13
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-trixie
ARG RUNTIME=tensorflow

FROM ${BASE_IMAGE} AS tools
# The tools that install and list packages stay in this stage.
ENV PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv
COPY requirements/build.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /build/tools && /build/tools/bin/pip install --require-hashes --requirement /build/build.txt

FROM tools AS tensorflow-requirements
COPY requirements/serving.txt /build/requirements.txt

FROM tools AS litert-requirements
COPY requirements/serving-litert.txt /build/requirements.txt

FROM tools AS onnx-requirements
COPY requirements/serving-onnx.txt /build/requirements.txt

FROM ${RUNTIME}-requirements AS installed
# Compiled here because the container cannot write: otherwise every start would compile all of TensorFlow's Python.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv venv --no-python-downloads --python python3 /opt/venv \
    && /build/tools/bin/uv pip install --python /opt/venv --require-hashes --link-mode copy --compile-bytecode \
        --requirements /build/requirements.txt

FROM installed AS litert-packages

FROM installed AS onnx-packages

FROM installed AS tensorflow-packages
# Only compilers need TensorFlow's C++ headers (287 MB) and libclang (61 MB). The other packages (80 MB) are imported
# only by TensorFlow, which works without them: fewer modules to load at every start, and no Keras that could load a
# file.
RUN --mount=type=cache,target=/cache \
    /build/tools/bin/uv pip uninstall --python /opt/venv libclang google-pasta grpcio h5py keras markdown-it-py mdurl \
        namex optree pygments rich setuptools wheel \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include

FROM ${RUNTIME}-packages AS packages
RUN rm /opt/venv/.lock \
    && mkdir /opt/venv/share \
    && /build/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/share/sbom.cdx.json \
        /opt/venv/bin/python

FROM ${BASE_IMAGE} AS server
# A number, because Kubernetes compares it with runAsNonRoot; a name, because some libraries look it up.
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home app
COPY --from=packages /opt/venv /opt/venv
# /tmp is the only writable directory; all others may be mounted read-only.
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SERVING_HOST=0.0.0.0 \
    SERVING_FROZEN=/measured/frozen \
    SERVING_MODEL=/model
WORKDIR /app
# serving_hooks.py is the team's, where there is one; see docs/security.md.
COPY service.toml serving_hook[s].py ./
COPY mlplatform/*.py mlplatform/
COPY mlplatform/config mlplatform/config
COPY mlplatform/store mlplatform/store
COPY mlplatform/contract mlplatform/contract
COPY mlplatform/telemetry mlplatform/telemetry
COPY mlplatform/ghost mlplatform/ghost
COPY mlplatform/runtime mlplatform/runtime
COPY mlplatform/serving mlplatform/serving
USER 10001:10001
# On SIGTERM the server keeps answering for a while, then exits after the last request.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "mlplatform", "health"]
ENTRYPOINT ["python", "-m", "mlplatform", "serve"]
# The installed packages decide the runtime, not service.toml.
ARG RUNTIME
ENV SERVING_RUNTIME=${RUNTIME}
# The model comes after the code: a new model rebuilds only what follows.
ARG MODEL
COPY ${MODEL} /model/

# The build fails if the model is damaged, or if the runtime cannot run it.
FROM server AS verified
USER 0:0
RUN install --directory --owner 10001 --group 10001 /measured
USER 10001:10001
# The first time, a small TensorFlow model's frozen graph is made; the second time it is used, as the server does, and the
# memory that it takes is measured. What the runtime writes into /tmp is not kept.
RUN --mount=type=tmpfs,target=/tmp \
    python -m mlplatform verify /model --runtime "${SERVING_RUNTIME}" --frozen "${SERVING_FROZEN}" \
    && python -m mlplatform verify /model --runtime "${SERVING_RUNTIME}" --frozen "${SERVING_FROZEN}" \
        --memory-file /measured/memory-bytes

FROM server
COPY --from=verified --chown=0:0 /measured /measured
# Last, because they differ in every build.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ARG TEMPLATE_VERSION=""
ARG MEMORY_BYTES=""
LABEL org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.source=${SOURCE} \
      ml-service-template.version=${TEMPLATE_VERSION} \
      ml-service-template.memory-bytes=${MEMORY_BYTES}
