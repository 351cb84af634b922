# The shop's worker; the same image migrates the database (`amends migrate`). The embedded servers and the tools of
# development stay out: requirements.txt says which version of what is installed, not what is.

FROM python:3.11.14-slim-trixie AS build
ENV PIP_CONSTRAINT=/build/requirements.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
COPY requirements.txt pyproject.toml README.md ./
COPY amends amends/
RUN /venv/bin/pip install .

FROM python:3.11.14-slim-trixie
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin amends
COPY --from=build /venv /venv
WORKDIR /app
COPY app.py cli.py worker.py client.py ./
COPY activities activities/
COPY domain domain/
COPY examples examples/
COPY read_models read_models/
COPY workflows workflows/
USER 10001
STOPSIGNAL SIGTERM
CMD ["python", "worker.py"]
