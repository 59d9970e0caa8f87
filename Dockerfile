# One image for the three processes: migrate and deploy, projector, API. See docker-compose.yml.
FROM python:3.13-slim

WORKDIR /app
COPY requirements/runtime.txt requirements/runtime.txt
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.txt

COPY pyproject.toml alembic.ini ./
COPY migrations migrations
COPY mesh_core mesh_core
COPY projections projections
COPY api api

RUN useradd --create-home --uid 10001 mesh
USER mesh
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 MESH_LOG_FORMAT=json
ENTRYPOINT ["python", "-m", "mesh_core.cli"]
CMD ["--help"]
