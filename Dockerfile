# headwater in a container: on an NVIDIA GPU by default, on a CPU by two build arguments.
#
#   docker build -t headwater .
#   docker build -t headwater:cpu --build-arg BASE=debian:bookworm-slim --build-arg EXTRA=cpu .
#
#   docker run --rm --gpus all -v "$PWD/birds:/images:ro" -v "$PWD/stores:/stores" \
#       headwater extract /images --out birds.store
#
# The two variants differ by these two arguments and by nothing else. BASE is any Debian or Ubuntu whose
# python3 is 3.10 or newer. CUDA 12 because the extra `gpu` is built for it (cupy, faiss); torch brings
# the CUDA libraries it wants itself, in both variants.
#
# Packages from an index of your own: `--secret id=pip.conf,src=FILE`; nothing of FILE stays in the image.
ARG BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04

# g++ and Python's headers are no left-overs: torch.compile writes C++ for the CPU, and for the GPU a
# launcher in C, and compiles them when the job runs.
FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# The requirements alone, in a stage of their own: the next stage takes them by content, so that neither
# a change of code nor of the linter's settings in setup.cfg installs torch again.
# `demo` and `hub` are in every image: a few packages, and `docker run headwater demo` shows that it works.
FROM python AS requirements
ARG EXTRA=gpu
COPY setup.cfg /
RUN python3 -c "import configparser; c = configparser.RawConfigParser(); c.read('/setup.cfg'); print(c['options']['install_requires'], *(c['options.extras_require'][extra] for extra in ('${EXTRA}', 'demo', 'hub')), sep='\n')" > /requirements.txt

FROM python
LABEL org.opencontainers.image.title="headwater" \
    org.opencontainers.image.description="Run the frozen backbone once. Train every head in seconds." \
    org.opencontainers.image.licenses="MIT"

# A fixed number, so that a host can give it a folder. /stores and /cache are open to every user, like
# /tmp, so that `--user "$(id -u):$(id -g)"` works too and leaves files that are the caller's own.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /cache --shell /usr/sbin/nologin headwater \
    && install --directory --mode 0755 /images \
    && install --directory --mode 1777 --owner headwater --group headwater /stores /cache

# setuptools builds the package in the code layer below, which then needs no network.
COPY --from=requirements /requirements.txt /opt/requirements.txt
RUN --mount=type=secret,id=pip.conf \
    export PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_NO_CACHE_DIR=1 \
    && python3 -m venv --upgrade-deps /opt/headwater \
    && /opt/headwater/bin/pip install --requirement /opt/requirements.txt "setuptools>=68"

# From here on it is seconds: all that a change of code builds again.
COPY pyproject.toml setup.cfg README.md LICENSE /opt/source/
COPY headwater /opt/source/headwater
RUN /opt/headwater/bin/pip install --no-cache-dir --no-index --no-deps --no-build-isolation /opt/source \
    && rm -rf /opt/source

# Whatever is fetched or compiled (weights, compiled kernels, fonts) lands in /cache, for any user number;
# kept between runs by `-v headwater-cache:/cache`, a volume for each user, since torch's locks are its owner's.
ENV PATH=/opt/headwater/bin:${PATH} \
    LANG=C.UTF-8 \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    TORCH_HOME=/cache/torch \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton

USER 10001:10001
WORKDIR /stores
VOLUME ["/images", "/stores", "/cache"]
ENTRYPOINT ["headwater"]
CMD ["--help"]
