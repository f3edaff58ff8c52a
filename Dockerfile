# The image of Lockstep; docs/service.md says how to build it and run it.
# tests/test_docker.py follows these steps in a bare folder.
FROM python:3.13-slim-bookworm

# One after the other: an image of a new release shares what the requirements installed.
WORKDIR /usr/src/lockstep
COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE app.py recipes.toml ./
COPY pipeline ./pipeline
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

# The user of a container that writes nowhere but to /data.
RUN useradd --uid 10001 --no-create-home --home-dir /data lockstep
RUN install -d -o 10001 -g 10001 -m 0750 /data

WORKDIR /opt/lockstep
COPY app.py ./
ENV PIPELINE_INPUT=/data/input \
    PIPELINE_OUTPUT=/data/output \
    PIPELINE_QUARANTINE=/data/quarantine \
    PIPELINE_STATE=/data/state \
    PIPELINE_RECIPES=/data/recipes.toml \
    PIPELINE_DB=sqlite:////data/db.sqlite
USER lockstep
VOLUME /data
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["datapipe"]
CMD ["serve", "--host", "0.0.0.0"]
