# An agent of Jenkins as a pod is one: Python, git and Buildah, and no engine.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get -qq update && apt-get -qq install --yes --no-install-recommends buildah git netavark \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/delivery.txt /build/
RUN --mount=type=cache,target=/cache \
    python -m venv /opt/venv && PIP_CACHE_DIR=/cache/pip /opt/venv/bin/pip install --require-hashes \
        --requirement /build/delivery.txt
ENV PATH=/opt/venv/bin:${PATH} BUILDAH_ISOLATION=chroot PYTHONDONTWRITEBYTECODE=1
WORKDIR /repository
