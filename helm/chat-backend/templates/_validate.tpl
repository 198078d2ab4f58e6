{{/* What values.schema.json cannot say, or could only say as "'not' failed": each with one sentence. */}}
{{- define "chat-backend.validate" -}}
{{- $values := .Values }}

{{- /* Values of chart 0.2 or older, either in a file or kept by --reuse-values, which leaves out the new defaults, too. */}}
{{- $renamed := dict "names" "fullnameOverride and ingress.name" "replicas" "replicaCount" "runAsUser" "podSecurityContext.runAsUser" "runAsGroup" "podSecurityContext.runAsGroup" }}
{{- range $old, $new := $renamed }}
  {{- if hasKey $values $old }}
    {{- printf "the value `%s` is now `%s`. Rename it in your values; after an older version of the chart, upgrade with --reset-then-reuse-values or --values instead of --reuse-values" $old $new | fail }}
  {{- end }}
{{- end }}
{{- range $old, $new := dict "host" "ingress.hosts[].host" "paths" "ingress.hosts[].paths" }}
  {{- if hasKey ($values.ingress | default dict) $old }}
    {{- printf "the value `ingress.%s` is now `%s`" $old $new | fail }}
  {{- end }}
{{- end }}
{{- range $path := list
  "replicaCount" "global" "image" "postgres.secretKeys" "redis.secretKeys" "migrationJob"
  "autoscaling.enabled" "autoscaling.cpu" "podDisruptionBudget.enabled"
  "podDisruptionBudget.maxUnavailable" "serviceAccount.create" "probes" "service.port" "httpRoute"
  "ingress" "networkPolicy" "metrics.serviceMonitor" "metrics.podMonitor"
  "metrics.prometheusRule.runbooks" "metrics.dashboard"
}}
  {{- $found := $values }}
  {{- range $key := splitList "." $path }}
    {{- if not (and (kindIs "map" $found) (hasKey $found $key)) }}
      {{- printf "the value `%s` is missing. If it was left out by --reuse-values after an older version of the chart, upgrade with --reset-then-reuse-values instead" $path | fail }}
    {{- end }}
    {{- $found = index $found $key }}
  {{- end }}
{{- end }}

{{- $fullname := include "chat-backend.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) }}
  {{- printf "the objects would be named `%s`, but the name of a Service begins with a letter: choose another release name, or set fullnameOverride" $fullname | fail }}
{{- end }}

{{- /* The engines. What a Secret or ConfigMap of envFrom holds is not known here. */}}
{{- $variables := dict "postgres" (list "POSTGRES_HOST" "POSTGRES_URL") "redis" (list "REDIS_HOST" "REDIS_URL" "REDIS_SENTINELS" "REDIS_CLUSTER_NODES") }}
{{- range $engine, $names := $variables }}
  {{- $settings := index $values $engine }}
  {{- $isNamed := or $settings.host (and $settings.existingSecret (or $settings.secretKeys.host $settings.secretKeys.url)) $values.envFrom }}
  {{- range $values.extraEnv }}
    {{- if has .name $names }}
      {{- $isNamed = true }}
    {{- end }}
  {{- end }}
  {{- if not $isNamed }}
    {{- printf "no %s is named: set %s.host (and %s.existingSecret to the Secret with its password), or %s in envFrom or extraEnv" (ternary "PostgreSQL" "Redis" (eq $engine "postgres")) $engine $engine (join " or " $names) | fail }}
  {{- end }}
{{- end }}

{{- range concat ($values.extraEnv | default list) ($values.migrationJob.extraEnv | default list) }}
  {{- if has .name (list "HTTP_PORT" "MIGRATE") }}
    {{- printf "extraEnv must not set %s, which belongs to the chart: use `%s`" .name (ternary "service.port" "migrate" (eq .name "HTTP_PORT")) | fail }}
  {{- end }}
{{- end }}
{{- range $key, $_ := $values.podLabels }}
  {{- if has $key (list "app" "app.kubernetes.io/name" "app.kubernetes.io/instance") }}
    {{- printf "podLabels must not set %s, by which the pods are found" $key | fail }}
  {{- end }}
{{- end }}
{{- if hasKey ($values.service.labels | default dict) "app" }}
  {{- fail "service.labels must not set app, by which the ServiceMonitor finds the Service" }}
{{- end }}
{{- range $key, $_ := $values.commonLabels }}
  {{- if or (has $key (list "app" "helm.sh/chart")) (hasPrefix "app.kubernetes.io/" $key) }}
    {{- printf "commonLabels must not set %s, which belongs to the chart" $key | fail }}
  {{- end }}
{{- end }}

{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled }}
  {{- fail "metrics.serviceMonitor and metrics.podMonitor are both enabled, so everything would be counted twice: enable one of them" }}
{{- end }}
{{- if and $values.autoscaling.enabled (lt (int $values.autoscaling.maxReplicas) (int $values.autoscaling.minReplicas)) }}
  {{- fail "autoscaling.maxReplicas must not be below autoscaling.minReplicas" }}
{{- end }}
{{- if and $values.service.nodePort (eq $values.service.type "ClusterIP") }}
  {{- fail "service.nodePort needs service.type NodePort or LoadBalancer" }}
{{- end }}
{{- $families := $values.service.ipFamilies | default list }}
{{- if and (gt (len $families) 1) (not (hasSuffix "DualStack" (toString $values.service.ipFamilyPolicy))) }}
  {{- fail "service.ipFamilies with two families needs service.ipFamilyPolicy PreferDualStack or RequireDualStack" }}
{{- end }}
{{- range $kind, $request := ($values.resources | default dict).requests }}
  {{- $limit := index ($values.resources.limits | default dict) $kind }}
  {{- if and (not (kindIs "invalid" $limit)) (gt (include "chat-backend.quantity" $request | float64) (include "chat-backend.quantity" $limit | float64)) }}
    {{- printf "resources.requests.%s (%v) is above resources.limits.%s (%v)" $kind $request $kind $limit | fail }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A Kubernetes quantity as a plain number: 500m is 0.5, 1Ki is 1024. */}}
{{- define "chat-backend.quantity" -}}
{{- $factors := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- $text := toString . }}
{{- $suffix := regexFind "([numkMGTP]|[KMGTPE]i|E)$" $text }}
{{- mulf (trimSuffix $suffix $text | float64) (index $factors $suffix) }}
{{- end }}
