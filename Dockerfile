# The production image of Facteur: `serve`, `worker` and the other commands, without what is for development.
#
#     docker build -t facteur .
#
# Needs no BuildKit. A change in src builds only Facteur again: what it depends on has a layer of its own.

FROM rust:1-bookworm AS build
WORKDIR /facteur

# 1. The dependencies, by the two files that name them, with an empty crate in Facteur's place. What was built
#    of that crate is removed: by the times of the files alone, Cargo could take it for the real one.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/main \
    && touch src/lib.rs README.md \
    && echo 'fn main() {}' > src/main/main.rs \
    && cargo build --release --locked --no-default-features --features server \
    && cargo clean --release --package facteur \
    && rm -r src

# 2. Facteur. Its README is the library's documentation, of which nothing is in a program: it stays empty. The queries are checked against .sqlx: no database is needed.
COPY build.rs sqlx.toml ./
COPY .sqlx .sqlx
COPY migrations migrations
COPY assets assets
COPY templates templates
COPY src src
ENV SQLX_OFFLINE=true
RUN cargo build --release --locked --no-default-features --features server


FROM debian:bookworm-slim

# The authorities that certify mail servers and databases.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /facteur/target/release/facteur /usr/local/bin/facteur

# Nobody in particular; a number, so that Kubernetes can see that it is not root.
USER 10001:10001

# The API, and metrics and probes on a port of their own, which a worker has too.
ENV HTTP_PORT=8000 METRICS_HOST=0.0.0.0 METRICS_PORT=9464
EXPOSE 8000 9464

# Postgres may be away for a while without Facteur being ill: this asks the process and nothing behind it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["facteur", "check", "--live"]

# SIGTERM stops in order, within SHUTDOWN_GRACE.
ENTRYPOINT ["facteur"]
CMD ["serve"]
