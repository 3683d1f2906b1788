# Ships a server's prediction events to the store. Build it from the repository's root:
#   docker build -f docker/events.Dockerfile -t events .
ARG PYTHON_VERSION=3.13
ARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-trixie

FROM ${BASE_IMAGE} AS packages
ENV PIP_CACHE_DIR=/cache/pip UV_CACHE_DIR=/cache/uv
COPY requirements/build.txt requirements/events.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /build/tools && /build/tools/bin/pip install --require-hashes --requirement /build/build.txt \
    && /build/tools/bin/uv venv --no-python-downloads --python python3 /opt/venv \
    && /build/tools/bin/uv pip install --python /opt/venv --require-hashes --link-mode copy --compile-bytecode \
        --requirements /build/events.txt \
    && rm /opt/venv/.lock \
    && mkdir /opt/venv/share \
    && /build/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/venv/share/sbom.cdx.json \
        /opt/venv/bin/python

FROM ${BASE_IMAGE}
# The same user as the server, because it removes the server's files.
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home app
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY service.toml ./
COPY mlplatform/*.py mlplatform/
COPY mlplatform/config mlplatform/config
COPY mlplatform/store mlplatform/store
COPY mlplatform/contract mlplatform/contract
COPY mlplatform/telemetry mlplatform/telemetry
COPY mlplatform/ghost mlplatform/ghost
USER 10001:10001
# On SIGTERM it ships what is left, then exits.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "mlplatform", "ship-events"]
CMD ["/events"]
# Last, because they differ in every build.
ARG REVISION=""
ARG VERSION=""
ARG SOURCE=""
ARG TEMPLATE_VERSION=""
LABEL org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.source=${SOURCE} \
      ml-service-template.version=${TEMPLATE_VERSION}
