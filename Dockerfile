# syntax=docker/dockerfile:1
# docker build --target cpu --tag sfi-sglang:cpu .     a demo and a server for a machine without a GPU
# docker build --target gpu --tag sfi-sglang:gpu .     SGLang's own image with this package in it
# How to run them: docs/deploying.md.

FROM python:3.11-slim-bookworm AS cpu
# gcc: Triton compiles small C modules at run time.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sfi-sglang
COPY . .
# The environment that `make setup` makes on any machine. TORCH_INDEX: where to find PyTorch's CPU build, if not there.
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip make setup TORCH_INDEX="$TORCH_INDEX"
ENV PATH=/opt/sfi-sglang/.venv/bin:$PATH
RUN useradd --create-home --uid 1000 sfi
USER 1000
WORKDIR /home/sfi
# Converts the embedded model, so that no container has to.
RUN python -c "from sfi_sglang.serving.embedded_model import embedded_model; embedded_model()" && sfi-sglang doctor
EXPOSE 30000
ENTRYPOINT ["sfi-sglang"]
CMD ["demo"]

# The version that requirements/cpu.txt pins too.
FROM lmsysorg/sglang:v0.5.23 AS gpu
WORKDIR /opt/sfi-sglang
COPY . .
# The constraints are what the image has: the build fails rather than change SGLang or what it came with.
RUN python3 -m pip list --format freeze > /tmp/installed.txt \
 && python3 -m pip install --no-cache-dir --constraint /tmp/installed.txt . \
 && rm /tmp/installed.txt \
 && sfi-sglang --version
WORKDIR /root
EXPOSE 30000
ENTRYPOINT ["sfi-sglang"]
CMD ["serve", "--help"]
