{{/* The labels of every object, not of the pods: those carry `app` alone, as the selector of the release taken over does. */}}
{{- define "chat-backend.labels" -}}
app: {{ .Values.names.app }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What all three containers have in common: the image, its environment and its limits. */}}
{{- define "chat-backend.container" -}}
{{- with .Values.image -}}
image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
envFrom:
  - secretRef:
      name: {{ .Values.names.databaseSecret }}
  - secretRef:
      name: {{ .Values.names.redisSecret }}
  - configMapRef:
      name: {{ .Values.names.projectConfig }}
  - configMapRef:
      name: {{ .Values.names.databaseConfig }}
  - configMapRef:
      name: {{ .Values.names.redisConfig }}
env:
  # The port of the probes and the Service.
  - name: HTTP_PORT
    value: "8080"
  - name: MIGRATE
    value: {{ .Values.migrate | quote }}
  # For as long as it may take until no new client is sent here. With it, the end takes 25 s at the most.
  - name: SHUTDOWN_DELAY
    value: "5"
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* `node -e <this> POSTGRES 5432`: waits until something answers at POSTGRES_HOST and POSTGRES_PORT. As process 1, node
would ignore a SIGTERM that it has no handler for, and a pod that waits could not be deleted at once. */}}
{{- define "chat-backend.wait" -}}
const { connect } = require('node:net')
const [, engine, usualPort] = process.argv
const host = process.env[`${engine}_HOST`]
const port = process.env[`${engine}_PORT`] || usualPort
process.on('SIGTERM', () => process.exit(1))
function attempt (tries) {
  const say = (text) => console.log(`${engine} at ${host}:${port}, try ${tries}: ${text}`)
  connect({ host, port, timeout: 2000 })
    .on('connect', () => { say('connected'); process.exit(0) })
    .on('timeout', function () { this.destroy(new Error('no answer in 2 s')) })
    .on('error', ({ code, message }) => { say(code || message); setTimeout(attempt, 1000, tries + 1) })
}
if (host) {
  attempt(1)
} else {
  console.log(`${engine}_HOST is not set`)
  process.exitCode = 1
}
{{- end }}
