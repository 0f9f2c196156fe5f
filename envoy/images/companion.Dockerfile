# The companion's image. In the repository's root:
#   docker build -f envoy/images/companion.Dockerfile -t registry.example.com/gatehook/companion:0.1.0 .
# Change: nothing but the name, and the two arguments where builds have images and targets of their own.
#
# From scratch, with a static binary of musl: one program, and no shell, libc or package manager that could need an
# update or serve an intruder. The program brings its own allocator and TLS, so musl's slow malloc plays no part. What
# an image from scratch lacks is here: certificates, and a user by number.
ARG BUILD_IMAGE=rust:1.89-bookworm
FROM ${BUILD_IMAGE} AS build
ARG TARGET=x86_64-unknown-linux-musl
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools
RUN rustup target add ${TARGET}
WORKDIR /gatehook
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY companion companion
COPY filter filter
COPY tests tests
RUN cargo build --release --locked --package companion --bin gatehook --target ${TARGET} \
    && cp target/${TARGET}/release/gatehook /gatehook/gatehook

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gatehook/gatehook /usr/bin/gatehook
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/usr/bin/gatehook"]
