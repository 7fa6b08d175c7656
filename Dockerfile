# syntax=docker/dockerfile:1
# Two stages: what builds stays behind. The image holds Python, the package and its dependencies; no compiler, no pip.

FROM python:3.13-slim-bookworm AS build
# Of agents, s3, nats and kafka what you use, with commas: docker build --build-arg EXTRAS=agents,s3 .
ARG EXTRAS=
WORKDIR /source
RUN python -m venv --without-pip /opt/waemitter
COPY pyproject.toml README.md LICENSE CHANGELOG.md schema.sql ./
COPY waemitter/ waemitter/
RUN pip --python /opt/waemitter/bin/python install --no-cache-dir --disable-pip-version-check ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="waemitter" \
      org.opencontainers.image.description="Sends and receives WhatsApp messages for applications that live beside a Postgres" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/waemitter /opt/waemitter
ENV PATH=/opt/waemitter/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WAEMITTER_HTTP__HOST=0.0.0.0
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=20s --retries=3 CMD ["waemitter", "healthcheck"]
ENTRYPOINT ["waemitter"]
CMD ["run"]
