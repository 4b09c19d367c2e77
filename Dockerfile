# The service as an image: docs/serve.md. Research only, not a medical device.
#   docker build --tag p2ch-luna:cpu .
#   docker build --tag p2ch-luna:cuda --build-arg DEVICE=cuda .
ARG PYTHON=3.11.14-slim-bookworm
# cpu or cuda.
ARG DEVICE=cpu

FROM python:${PYTHON} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY constraints.txt ./

# PyTorch keeps its wheels without CUDA on an index of its own; PyPI's have CUDA.
ARG DEVICE
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m venv /opt/luna \
 && case "$DEVICE" in \
      cpu) /opt/luna/bin/pip install --constraint constraints.txt --no-deps --index-url "$TORCH_CPU_INDEX" torch ;; \
      cuda) /opt/luna/bin/pip install --constraint constraints.txt torch ;; \
      *) echo "DEVICE: found $DEVICE; expected cpu or cuda" >&2; exit 1 ;; \
    esac

# p2ch_luna/lidc is a link to data/lidc, which the wheel takes as files.
COPY pyproject.toml README.md LICENSE ./
COPY data/lidc data/lidc
COPY p2ch_luna p2ch_luna
RUN pip install --constraint constraints.txt setuptools \
 && pip wheel --no-deps --no-build-isolation --wheel-dir /build/wheels . \
 && extras=serve \
 && if [ "$DEVICE" = cpu ]; then extras=serve,openvino; fi \
 && /opt/luna/bin/pip install --constraint constraints.txt "$(echo /build/wheels/p2ch_luna-*.whl)[$extras]"

FROM python:${PYTHON} AS serve
RUN groupadd --gid 10001 luna \
 && useradd --uid 10001 --gid luna --no-create-home --home-dir /data luna \
 && install --directory --owner luna --group luna --mode 0700 /data
COPY --from=build /opt/luna /opt/luna
# All that is written lies in /data or /tmp, so that the rest can be mounted read-only.
ENV PATH=/opt/luna/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
VOLUME /data
EXPOSE 8000
# The proxies of the environment are not asked for what lies in the container.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["luna"]

# OpenVINO is faster on a CPU, and its networks are converted once, at the start.
FROM serve AS cpu
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--folder", "/data", "--token-file", "/run/secrets/luna_token", "--device", "cpu", "--runtime", "openvino"]

FROM serve AS cuda
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--folder", "/data", "--token-file", "/run/secrets/luna_token", "--device", "cuda"]

FROM ${DEVICE}
