# The gateway and its worker: one image, the command decides. PostgreSQL and Redis are other containers.
FROM python:3.11-slim AS build
WORKDIR /opt/tollgate
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/tollgate --create-home tollgate
COPY --from=build /opt/venv /opt/venv
WORKDIR /opt/tollgate
COPY . .
RUN /opt/venv/bin/python tools/link_checkout.py
ENV PATH=/opt/venv/bin:$PATH \
    TOLLGATE_HOST=0.0.0.0 \
    TOLLGATE_DATA_DIR=/var/lib/tollgate
USER tollgate
VOLUME /var/lib/tollgate
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["tollgate", "serve"]
