# The HTTP service on a CPU: docker build -t nsbgan . && docker run --rm -p 8000:8000 -e NSBGAN_SERVE_TOKEN=... nsbgan
# .ci/image builds it and asks it for a picture, or runs these steps as a script where nothing can build images.
FROM python:3.12-slim

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    NSBGAN_CACHE=/var/cache/nsbgan

# What is large and seldom changes comes first, so that a change of the project builds the last layers only.
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch==2.13.0" \
    && useradd --system --uid 10001 --create-home nsbgan \
    && install -d -o nsbgan /var/cache/nsbgan

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nsbgan_infer ./nsbgan_infer
COPY weights ./weights
RUN pip install -c constraints.txt ".[serve]"

USER 10001
WORKDIR /home/nsbgan
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/health')"]
# The service finishes its requests first, for 30 seconds at most: docker stop --time 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["nsbgan", "serve", "--host", "0.0.0.0", "--offline"]
