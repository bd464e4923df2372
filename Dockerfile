# The vault: one static binary, the certificate authorities, and nothing else.
#
#   docker build -t piivault:dev .
#
# It runs as 65532:65532, which terraform/service expects. The build wants a git
# checkout, whose commit `vault version` then names, and BuildKit.

# Pinned by its exact version: public sources disagree on the digest, since
# this tag is built anew with its base.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=true -o /out/vault ./cmd/vault
RUN mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/vault /vault
# A volume that is mounted here first belongs to the vault too.
COPY --from=build --chown=65532:65532 --chmod=700 /out/data /var/lib/vault
USER 65532:65532
ENV VAULT_CONFIG=/etc/vault/vault.yaml
EXPOSE 8200
# Of `vault serve`; there is no shell and no curl here.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s --retries=3 CMD ["/vault", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/vault"]
CMD ["serve"]
