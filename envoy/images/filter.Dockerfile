# The filter's image, as Istio and Envoy Gateway expect one: from scratch, with the module at /plugin.wasm and nothing
# else. In the repository's root:
#   docker build -f envoy/images/filter.Dockerfile -t registry.example.com/gatehook/filter:0.1.0 .
# Change: nothing but the name, and the argument where builds have images of their own.
ARG BUILD_IMAGE=rust:1.89-bookworm
FROM ${BUILD_IMAGE} AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /gatehook
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY companion companion
COPY filter filter
COPY tests tests
RUN cargo wasm --locked && cp target/wasm32-unknown-unknown/wasm/gatehook_filter.wasm /gatehook/plugin.wasm

FROM scratch
COPY --from=build /gatehook/plugin.wasm /plugin.wasm
