{{/* Name of the chart. */}}
{{- define "agentlet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Name that the objects' names start with; 40 characters leave room for what is put behind it. */}}
{{- define "agentlet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "agentlet.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "agentlet.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "agentlet.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "agentlet.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Namespace of the objects that are in one. */}}
{{- define "agentlet.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* Labels and annotations of an object: everybody's, and its own, which win. The argument is the root, or a dict with root, labels and
annotations. */}}
{{- define "agentlet.metadata" -}}
{{- $root := .root | default . -}}
labels:
  {{- include "agentlet.labelsWith" (dict "root" $root "own" .labels) | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) ($root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Annotation of what outlives the chart, since running pods need it. */}}
{{- define "agentlet.kept" -}}
{{- if eq .Values.grants.mode "auto" }}helm.sh/resource-policy: keep{{ end }}
{{- end }}

{{/* Labels of an object that has labels of its own, which win; the argument is a dict with root and own. */}}
{{- define "agentlet.labelsWith" -}}
{{- merge (deepCopy (.own | default dict)) (include "agentlet.labels" .root | fromYaml) | toYaml }}
{{- end }}

{{/* Labels by which the webhook's pods are found. */}}
{{- define "agentlet.selector" -}}
app.kubernetes.io/name: {{ include "agentlet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "agentlet.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (printf "%s-webhook" (include "agentlet.fullname" .)) .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Reference of an image, from a dict with root and image. */}}
{{- define "agentlet.reference" -}}
{{- $registry := default .image.registry (.root.Values.global | default dict).imageRegistry | default "" | trimSuffix "/" }}
{{- $name := list $registry .image.repository | compact | join "/" }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- define "agentlet.webhookImage" -}}
{{- include "agentlet.reference" (dict "root" . "image" .Values.image) }}
{{- end }}

{{/* Image of the agentlet that is added to pods. */}}
{{- define "agentlet.agentletImage" -}}
{{- include "agentlet.reference" (dict "root" . "image" (empty .Values.agentlet.image.repository | not | ternary .Values.agentlet.image .Values.image)) }}
{{- end }}

{{/* Secrets of the chart's own pods to pull images with, with the key of a pod's specification. */}}
{{- define "agentlet.pullSecrets" -}}
{{- $secrets := list }}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets | uniq }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* User of agentlets. A number of a file is a float, which would be printed as 1.00065e+09. */}}
{{- define "agentlet.runAsUser" -}}
{{- $user := kindIs "invalid" .Values.agentlet.runAsUser | ternary "auto" .Values.agentlet.runAsUser }}
{{- if kindIs "string" $user }}{{ $user }}{{ else }}{{ int64 $user }}{{ end }}
{{- end }}

{{/* Secret of the webhook's own authority. */}}
{{- define "agentlet.caSecret" -}}
{{ include "agentlet.fullname" . }}-webhook-ca
{{- end }}

{{/* How long the authority is valid that cert-manager makes. */}}
{{- define "agentlet.authorityDuration" -}}43800h{{- end }}

{{/* Secret with the webhook's certificate, where somebody else keeps it. */}}
{{- define "agentlet.certSecret" -}}
{{- if eq .Values.certs.source "cert-manager" }}
{{- include "agentlet.fullname" . }}-webhook-tls
{{- else }}
{{- .Values.certs.secretName }}
{{- end }}
{{- end }}

{{/* ClusterRole of an agentlet. */}}
{{- define "agentlet.podRole" -}}
{{ include "agentlet.fullname" . }}-pod
{{- end }}

{{/* RoleBinding that the webhook keeps in each namespace with injected pods; that of grants.namespaces has the role's name. */}}
{{- define "agentlet.podBinding" -}}
{{ include "agentlet.fullname" . }}-pods
{{- end }}

{{/* Policy that bounds the role to a pod's own gate, and its binding. */}}
{{- define "agentlet.gatePolicy" -}}
{{ include "agentlet.fullname" . }}-own-pod-gate
{{- end }}

{{/* Policy that bounds the role to events about the own pod, and its binding. */}}
{{- define "agentlet.eventsPolicy" -}}
{{ include "agentlet.fullname" . }}-own-pod-events
{{- end }}

{{/* Variables of a policy: the pod that the asking account's token is bound to, empty where it is bound to none. */}}
{{- define "agentlet.tokensPod" -}}
- name: extra
  expression: "has(request.userInfo.extra) ? request.userInfo.extra : {}"
- name: podName
  expression: "'authentication.kubernetes.io/pod-name' in variables.extra ? variables.extra['authentication.kubernetes.io/pod-name'][0] : ''"
- name: podUID
  expression: "'authentication.kubernetes.io/pod-uid' in variables.extra ? variables.extra['authentication.kubernetes.io/pod-uid'][0] : ''"
{{- end }}

{{/* Whether an expression in CEL is a reason, and, of a dict with value and most, a message of so many bytes: without control
characters but line breaks and tabs, since somebody's terminal shows it. */}}
{{- define "agentlet.reason" -}}
{{ . }}.matches('^[A-Z][A-Za-z0-9]{0,63}$')
{{- end }}
{{- define "agentlet.message" -}}
size(bytes({{ .value }})) <= {{ .most }} && !{{ .value }}.matches(r'[^\P{Cc}\n\t]')
{{- end }}

{{/* Namespaces whose pods never get an agentlet, as a JSON list. */}}
{{- define "agentlet.excludedNamespaces" -}}
{{ concat (list (include "agentlet.namespace" .) "kube-system") .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* Names of a list of references, separated by commas. */}}
{{- define "agentlet.names" -}}
{{- $names := list }}
{{- range . }}{{ $names = append $names .name }}{{ end }}
{{- join "," $names }}
{{- end }}

{{/* Whether a map of annotations asks for a registration, in CEL; the argument is a dict with dialects and the map. */}}
{{- define "agentlet.asks" -}}
{{ .annotations }}.exists(k, k.startsWith('agentlet.dev/')
{{- if has "katalog-sync" .dialects }} || k.startsWith('katalog-sync.wish.com/'){{ end }}
{{- if has "consul-k8s" .dialects }} || k in ['consul.hashicorp.com/service-name', 'consul.hashicorp.com/service-sync']{{ end }})
{{- end }}

{{/* Conditions that an agentlet may write, as a list in CEL. */}}
{{- define "agentlet.conditionTypes" -}}
{{- $types := concat (list "agentlet.dev/registered") (.Values.policy.conditionTypes | default list) }}
{{- if has "katalog-sync" .Values.dialects }}
{{- $types = append $types "katalog-sync.wish.com/synced" }}
{{- end -}}
['{{ $types | uniq | join "', '" }}']
{{- end }}

{{/* Labels that an opted-in namespace has: the one by which it opts in, and those that it is chosen by beside. */}}
{{- define "agentlet.namespaceLabels" -}}
{{- merge (dict "agentlet.dev/inject" "enabled") (.Values.webhook.namespaceSelector.matchLabels | default dict) | toYaml }}
{{- end }}

{{/* The namespaces that the webhooks look at. */}}
{{- define "agentlet.namespaceSelector" -}}
matchLabels: {{- include "agentlet.namespaceLabels" . | nindent 2 }}
matchExpressions:
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: {{- include "agentlet.excludedNamespaces" . | fromJsonArray | toYaml | nindent 2 }}
{{- with .Values.webhook.namespaceSelector.matchExpressions }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* Whether workloads are judged. webhook.objectSelector chooses pods by labels, which is nothing that the API server could ask of a
workload: judged would be what is never injected. */}}
{{- define "agentlet.workloads" -}}
{{- if and .Values.webhook.workloads.enabled (not .Values.webhook.objectSelector) }}true{{ end }}
{{- end }}

{{/* Flags of the webhook about TLS and ACLs of Consul, as a JSON object. */}}
{{- define "agentlet.consulFlags" -}}
{{- with .Values.consul -}}
{{- dict
  "consul-tls-ca" .tls.ca
  "consul-tls-configmap" .tls.configMapName
  "consul-tls-secret" .tls.secretName
  "consul-tls-server-name" .tls.serverName
  "consul-acl" .acl.mode
  "consul-acl-secret" .acl.secretName
  "consul-auth-method" .acl.authMethod
  "consul-audience" .acl.audience | toJson -}}
{{- end -}}
{{- end }}

{{/* Flags of the webhook about mesh proxies, as a JSON object. */}}
{{- define "agentlet.connectFlags" -}}
{{- with .Values.connect -}}
{{- $resources := .resources | default dict -}}
{{- dict
  "connect-image" .image
  "connect-image-pull-policy" .imagePullPolicy
  "connect-proxy" .proxy
  "connect-grpc-port" (int .grpcPort)
  "connect-secret" .secretName
  "connect-auth-method" .authMethod
  "connect-cpu-request" (dig "requests" "cpu" "" $resources)
  "connect-memory-request" (dig "requests" "memory" "" $resources)
  "connect-cpu-limit" (dig "limits" "cpu" "" $resources)
  "connect-memory-limit" (dig "limits" "memory" "" $resources) | toJson -}}
{{- end -}}
{{- end }}

{{/*
Says yes where there is a NetworkPolicy. With auto the chart goes by the values alone. It could look up the addresses of the service
kubernetes, but calls come from others where the network is an overlay, or where the API server has a tunnel into the cluster; and a
policy that is wrong stops every annotated pod.
*/}}
{{- define "agentlet.networkPolicy" -}}
{{- $enabled := toString .Values.networkPolicy.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") .Values.networkPolicy.webhookFrom (not .Values.hostNetwork)) }}yes{{ end }}
{{- end }}

{{/* Where the webhook finds whom its clients have to be signed by. */}}
{{- define "agentlet.clientCAPath" -}}/client-ca{{- end }}

{{/* Four fifths of the memory limit in bytes, for Go's garbage collector; empty without a limit. */}}
{{- define "agentlet.goMemoryLimit" -}}
{{- $limit := dig "limits" "memory" "" (.Values.resources | default dict) | toString }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $limit }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- with and $number (get $units (trimPrefix $number $limit)) }}
{{- mulf (float64 $number) . 0.8 | int64 }}
{{- end }}
{{- end }}
