{{/* "true" unless an umbrella chart has switched this one off. Every template asks first, so the values are checked before any is used. */}}
{{- define "chat-backend.enabled" -}}
{{- if ne (toString .Values.enabled) "false" -}}
{{- include "chat-backend.validate" . -}}
true
{{- end -}}
{{- end }}

{{- define "chat-backend.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the release, the Service and the Deployment. It leaves room for the longest suffix within 63 characters. */}}
{{- define "chat-backend.fullname" -}}
{{- $name := include "chat-backend.name" . }}
{{- $whole := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) | replace "." "-" }}
{{- .Values.fullnameOverride | default $whole | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "chat-backend.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "chat-backend.fullname" .) "" .Values.serviceAccount.create) }}
{{- end }}

{{/* The labels of every object. The Service, the Deployment and the others select by `app` alone, which no other release has in this
namespace, because it is the name of the objects. A selector can never change, and the Go service's release has this one. */}}
{{- define "chat-backend.labels" -}}
app: {{ include "chat-backend.fullname" . }}
{{ include "chat-backend.commonLabels" . }}
{{- end }}

{{/* The labels of an object that the values may give labels of its own, which win. Takes `root` and `labels`. */}}
{{- define "chat-backend.labelsWith" -}}
{{- toYaml (mergeOverwrite (include "chat-backend.labels" .root | fromYaml) (.labels | default dict)) }}
{{- end }}

{{- define "chat-backend.commonLabels" -}}
app.kubernetes.io/name: {{ include "chat-backend.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Security, secrets and scheduling, the same for the pods of the service, the migration and the test. */}}
{{- define "chat-backend.pod" -}}
# A Service named redis would set REDIS_PORT to tcp://…
enableServiceLinks: false
# Nothing here calls the Kubernetes API.
automountServiceAccountToken: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
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

{{/* Every container: the image, its limits and rights. The command is set although the image has it, because a take-over keeps whatever
the old object has and the chart does not set, such as the old command. The image has no shell, and no PATH to node. */}}
{{- define "chat-backend.container" -}}
{{- with .Values.image -}}
image: {{ with $.Values.global.imageRegistry }}{{ . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
command: [{{ .node }}]
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
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

{{/* The environment beside `envFrom`, over which it wins. A later entry replaces an earlier one of the same name, because a server-side
apply, and so Helm 4, refuses a name that appears twice. */}}
{{- define "chat-backend.env" -}}
{{- $env := list (dict "name" "HTTP_PORT" "value" "8080") (dict "name" "MIGRATE" "value" .migrate) }}
{{- with .root.Values.trustProxy }}
  {{- $env = append $env (dict "name" "TRUST_PROXY" "value" (join "," .)) }}
{{- end }}
{{- $variables := dict "url" "URL" "host" "HOST" "port" "PORT" "database" "DB" "user" "USER" "password" "PASSWORD" }}
{{- range $engine := list "postgres" "redis" }}
  {{- $settings := index $.root.Values $engine }}
  {{- $keys := ternary $settings.secretKeys dict (not (empty $settings.existingSecret)) }}
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
{{- $env = concat $env (.root.Values.extraEnv | default list) (.extraEnv | default list) }}
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

{{/* The paths that the outside may ask for. The web client is one page and its parts; all of / would include /metrics. */}}
{{- define "chat-backend.paths" -}}
{{- range .paths }}
{{- if kindIs "string" . }}
- { path: {{ . | quote }}, type: Prefix }
{{- else }}
- { path: {{ .path | quote }}, type: {{ .pathType | default "Prefix" }} }
{{- end }}
{{- end }}
{{- if .root.Values.webClient }}
- { path: /web, type: Prefix }
- { path: /, type: Exact }
{{- end }}
{{- end }}

{{/* The ports of a NetworkPolicy rule for one engine: those of `networkPolicy`, else the one that the chart knows. Nothing, and so any
port, where a Secret or a ConfigMap may hold it. Takes `root`, `extraEnv` and `engine`. */}}
{{- define "chat-backend.enginePorts" -}}
{{- $settings := index .root.Values .engine }}
{{- $ports := index .root.Values.networkPolicy (printf "%sPorts" .engine) }}
{{- $prefix := upper .engine }}
{{- $port := $settings.port | default (ternary 5432 6379 (eq .engine "postgres")) | toString }}
{{- $isKnown := or $settings.port (empty .root.Values.envFrom) }}
{{- if and $settings.existingSecret $settings.secretKeys.port }}
  {{- $isKnown = false }}
{{- end }}
{{- $isReplaced := and $settings.existingSecret $settings.secretKeys.url }}
{{- range concat (.root.Values.extraEnv | default list) (.extraEnv | default list) }}
  {{- if has .name (list (printf "%s_URL" $prefix) "REDIS_SENTINELS" "REDIS_CLUSTER_NODES") }}
    {{- if hasPrefix $prefix .name }}
      {{- $isReplaced = true }}
    {{- end }}
  {{- else if eq .name (printf "%s_PORT" $prefix) }}
    {{- $isKnown = ne (.value | default "") "" }}
    {{- $port = .value }}
  {{- end }}
{{- end }}
{{- if and (empty $ports) $isKnown (not $isReplaced) }}
  {{- $ports = list (int $port) }}
{{- end }}
{{- range $ports }}
- port: {{ . }}
{{- end }}
{{- end }}

{{/* Where the service or the migration may connect to. Takes `root` and `extraEnv`. */}}
{{- define "chat-backend.egress" -}}
# DNS. OpenShift's listens on 5353.
- ports:
    {{- range list 53 5353 }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- range $engine := list "postgres" "redis" }}
{{- $ports := include "chat-backend.enginePorts" (dict "root" $.root "extraEnv" $.extraEnv "engine" $engine) }}
{{- $peers := index $.root.Values.networkPolicy $engine }}
{{- $rule := dict }}
{{- with $ports }}
{{- $_ := set $rule "ports" (fromYamlArray .) }}
{{- end }}
{{- with $peers }}
{{- $_ := set $rule "to" . }}
{{- end }}
{{ toYaml (list $rule) }}
{{- end }}
{{- with .root.Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
