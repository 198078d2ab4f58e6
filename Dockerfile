# A pinned base, or another's: --build-arg RUNTIME_DIGEST=sha256:…,
# --build-arg RUNTIME_IMAGE=mirror.example/nodejs26-debian13:nonroot.
ARG NODE_VERSION=26
ARG BUILD_IMAGE=docker.io/library/node:${NODE_VERSION}-trixie-slim
ARG BUILD_DIGEST=
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs${NODE_VERSION}-debian13:nonroot
ARG RUNTIME_DIGEST=

# On the machine that builds, whatever the image is for: the compiled service is the same everywhere.
FROM --platform=${BUILDPLATFORM} ${BUILD_IMAGE}${BUILD_DIGEST:+@${BUILD_DIGEST}} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
ARG TARGETARCH
# No install scripts: no package runs its own code here. The one that is compiled, bcrypt, is chosen for the
# target; without the devDependencies, the embedded engines are gone as well: in a container both engines are
# other hosts. Last goes what no program loads: most packages are part of dist/, and leave here only their
# licences, and the package.json by which scanners know them.
RUN npm ci --omit=dev --ignore-scripts --os=linux --libc=glibc --cpu="$(echo "$TARGETARCH" | sed s/amd64/x64/)" \
 && npm pkg delete devDependencies overrides scripts \
 && npm sbom --sbom-format cyclonedx > sbom.cdx.json \
 && rm package-lock.json \
 && find node_modules -type f ! -name package.json ! -iname 'licen[cs]e*' ! -iname 'notice*' \
      ! -path '*/@node-rs/*' ! -path '*/@zxcvbn-ts/*' ! -path '*/swagger-ui-dist/*' -delete \
 && find node_modules -type f \( -name '*.map' -o -name '*.d.ts' -o -name 'swagger-ui-es-bundle*' \
      -o -name swagger-ui.js -o -name 'swagger-ui-standalone*' \) -delete \
 && find node_modules -type d -empty -delete \
 && chmod -R a=rX .

FROM --platform=${BUILDPLATFORM} ${BUILD_IMAGE}${BUILD_DIGEST:+@${BUILD_DIGEST}} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --include=dev --ignore-scripts
COPY tsconfig.json build.js ./
COPY schemas schemas
COPY src src
COPY web web
RUN npm run build && rm dist/.tsbuildinfo && chmod -R a=rX dist web

# Node, and what it is linked with: no shell, no package manager, no npm. Its entrypoint is /nodejs/bin/node.
FROM ${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@${RUNTIME_DIGEST}}
# All of it is root's and read-only, so the service cannot change its own code; it writes no file, and runs on
# a read-only root.
COPY --from=dependencies /app /app
COPY --from=build /app/dist /app/dist
COPY --from=build /app/web /app/web
WORKDIR /app
# The young generation of V8's heap has the same size everywhere. Node chooses 4 MiB where the memory is
# limited to 512 MiB, which costs a fifth more CPU for a poll and a quarter more for a post, and 64 MiB where
# there is more. Fewer arenas of malloc save 10 to 30 MiB under load.
ENV NODE_ENV=production \
    NODE_OPTIONS=--max-semi-space-size=16 \
    MALLOC_ARENA_MAX=2
# Numeric, because Kubernetes cannot tell that a named user is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
# For plain Docker; Kubernetes has probes of its own. The start may wait BOOT_TIMEOUT (30 s) for each engine.
HEALTHCHECK --interval=15s --timeout=3s --start-period=70s \
  CMD ["/nodejs/bin/node", "-e", "fetch(`http://127.0.0.1:${process.env.HTTP_PORT || 8080}/health/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["dist/src/server.js"]
ARG RUNTIME_IMAGE
ARG RUNTIME_DIGEST
ARG VERSION=unknown
ARG REVISION=unknown
# When the commit was made (RFC 3339), and where the source is.
ARG CREATED=unknown
ARG SOURCE=https://chat-backend.example
LABEL org.opencontainers.image.title="chat-backend" \
      org.opencontainers.image.description="One shared chat room over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}" \
      org.opencontainers.image.base.digest="${RUNTIME_DIGEST}"
