# Tocsin in a container. CPU-only PyTorch comes from an index of your choice (the ordinary build brings
# gigabytes of CUDA):
#   docker build --build-arg TORCH_INDEX=<index of PyTorch's CPU wheels> -t tocsin:0.1.0 .
# `--build-arg EXTRAS=1` adds the libraries that some destinations need (docs/connectors.md).
#   docker run --read-only --tmpfs /tmp -v tocsin:/var/lib/tocsin -v ./tocsin.yaml:/etc/tocsin/tocsin.yaml:ro \
#     -p 127.0.0.1:9195:9195 tocsin:0.1.0 serve --config /etc/tocsin/tocsin.yaml
# In a container `listen` must be 0.0.0.0:9195, which needs tokens: see config/kubernetes/tocsin.yaml.
#
# No image was built where this was written, for want of a container runtime: the commands of the build stage
# were run one by one in a clean virtual environment instead, and a sidecar and its encoder in what they left.

FROM python:3.11-slim AS build
ARG TORCH_INDEX=""
ARG EXTRAS=""
WORKDIR /src
COPY pyproject.toml lock.txt README.md LICENSE ./
# lock.txt has four parts: what runs, what extras add, what builds the wheel, what developers need besides.
RUN if [ -n "$EXTRAS" ]; then next=build; else next=extras; fi \
 && sed "/^#### $next/,\$d" lock.txt > run.txt \
 && sed -n '/^#### build/,/^#### develop/p' lock.txt > build.txt
RUN python -m venv /opt/tocsin \
 && /opt/tocsin/bin/pip install --no-cache-dir --no-deps --require-hashes -r run.txt
RUN /opt/tocsin/bin/pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --no-deps --require-hashes -r build.txt
COPY bridge bridge
COPY connectors connectors
# What hatchling shares with Tocsin stands in Tocsin's own environment.
RUN PYTHONPATH=/opt/tocsin/lib/python3.11/site-packages /build/bin/hatchling build -t wheel \
 && /opt/tocsin/bin/pip install --no-cache-dir --no-deps dist/*.whl \
 && /opt/tocsin/bin/pip check
# torch names setuptools and sqlite-utils pip; Tocsin uses neither of them when it runs.
RUN /opt/tocsin/bin/python -m pip uninstall --yes setuptools pip

# No compiler and no build tool from here on, neither Tocsin's nor the base image's own.
FROM python:3.11-slim
RUN python -m pip uninstall --yes --root-user-action=ignore setuptools wheel pip
COPY --from=build /opt/tocsin /opt/tocsin
RUN mkdir -p /var/lib/tocsin /etc/tocsin && chown 65532:65532 /var/lib/tocsin
ENV PATH=/opt/tocsin/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/tocsin
VOLUME /var/lib/tocsin
EXPOSE 9195
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9195/-/healthy', timeout=4)"]
ENTRYPOINT ["tocsin"]
CMD ["serve", "--data", "/var/lib/tocsin"]
