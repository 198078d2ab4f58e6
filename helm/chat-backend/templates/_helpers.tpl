{{/* The labels of every object; nothing selects by them but `app`. */}}
{{- define "chat-backend.labels" -}}
app: {{ .Values.names.app }}
{{ include "chat-backend.commonLabels" . }}
{{- end }}

{{- define "chat-backend.commonLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Rights, secrets and scheduling, the same for the pods of the service, the migration and the test. */}}
{{- define "chat-backend.pod" -}}
# A Service named redis would set REDIS_PORT to tcp://…
enableServiceLinks: false
# Nothing here speaks to Kubernetes.
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  {{- range $name := list "runAsUser" "runAsGroup" }}
  {{- $id := index $.Values $name }}
  {{- if not (kindIs "invalid" $id) }}
  {{ $name }}: {{ int64 $id }}
  {{- end }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Every container: the image, limits and rights. That node starts is said here and not left to the image, because Helm keeps what an
object that it takes over has and the chart does not: the command of the containers before. The image has no shell, and no PATH to node. */}}
{{- define "chat-backend.container" -}}
{{- with .Values.image -}}
image: {{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
command: [{{ .node }}]
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The containers of the service and of the migration, which know the engines. Takes `root`, `migrate` and `extraEnv`. */}}
{{- define "chat-backend.configured" -}}
{{- include "chat-backend.container" .root }}
{{- with .root.Values.extraVolumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
env:
  {{- include "chat-backend.env" . | nindent 2 }}
{{- end }}

{{/* The environment beside `envFrom`, over which it wins. A later entry replaces an earlier one of the same name: to apply both is
an error on the server's side, and so with Helm 4. */}}
{{- define "chat-backend.env" -}}
{{- $env := list (dict "name" "HTTP_PORT" "value" "8080") (dict "name" "MIGRATE" "value" .migrate) }}
{{- with .root.Values.trustProxy }}
  {{- $env = append $env (dict "name" "TRUST_PROXY" "value" (join "," .)) }}
{{- end }}
{{- $variables := dict "url" "URL" "host" "HOST" "port" "PORT" "database" "DB" "user" "USER" "password" "PASSWORD" }}
{{- range $engine := list "postgres" "redis" }}
  {{- $settings := index $.root.Values $engine }}
  {{- $keys := ternary $settings.secretKeys dict (ne $settings.existingSecret "") }}
  {{- range $field := list "url" "host" "port" "database" "user" "password" }}
    {{- $name := printf "%s_%s" (upper $engine) (index $variables $field) }}
    {{- $value := index $settings $field | default "" | toString }}
    {{- if and (index $keys "url") (ne $field "url") }}
    {{- else if index $keys $field }}
      {{- $env = append $env (dict "name" $name "valueFrom" (dict "secretKeyRef" (dict "name" $settings.existingSecret "key" (index $keys $field)))) }}
    {{- else if $value }}
      {{- $env = append $env (dict "name" $name "value" $value) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- $last := dict }}
{{- $env = concat $env .root.Values.extraEnv .extraEnv }}
{{- range $env }}
  {{- $_ := set $last .name . }}
{{- end }}
{{- $unique := list }}
{{- range $env }}
  {{- if hasKey $last .name }}
    {{- $unique = append $unique (index $last .name) }}
    {{- $_ := unset $last .name }}
  {{- end }}
{{- end }}
{{- toYaml $unique }}
{{- end }}

{{/* What the outside may ask for. The web client is one page and its parts: all of / would have /metrics in it. */}}
{{- define "chat-backend.paths" -}}
{{- range .paths }}
- { path: {{ . | quote }}, type: Prefix }
{{- end }}
{{- if .root.Values.webClient }}
- { path: /web, type: Prefix }
- { path: /, type: Exact }
{{- end }}
{{- end }}
