# Another base, such as a mirror's: --build-arg NODE_IMAGE=…; it needs Node 20.20 or later, and npm.
ARG NODE_IMAGE=node:26-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: no package runs its own code here, and `prepare` would want sources that are not there yet.
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY schemas schemas
COPY src src
# Without the devDependencies, the embedded engines are gone as well: in a container both engines are other hosts.
RUN npx tsc -b && npm ci --omit=dev --ignore-scripts

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="chat-backend" \
      org.opencontainers.image.description="One shared chat room over HTTP" \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production
WORKDIR /app
# All of it stays root's, so the service cannot change its own code; it writes no file, and runs on a read-only root.
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# Numeric, because Kubernetes cannot tell that a named user is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
# For plain Docker; Kubernetes has probes of its own. The start may wait BOOT_TIMEOUT (30 s) for each engine.
HEALTHCHECK --interval=15s --timeout=3s --start-period=70s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HTTP_PORT || 8080}/health/livez`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/src/server.js"]
