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
{{- end }}

{{/* Labels by which the webhook's pods are found. */}}
{{- define "agentlet.selector" -}}
app.kubernetes.io/name: {{ include "agentlet.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "agentlet.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (printf "%s-webhook" (include "agentlet.fullname" .)) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Reference of an image, from a dict with image and tag (the tag where the image has none). */}}
{{- define "agentlet.reference" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) }}
{{- end }}
{{- end }}

{{- define "agentlet.webhookImage" -}}
{{- include "agentlet.reference" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* Image of the agentlet that is added to pods. */}}
{{- define "agentlet.agentletImage" -}}
{{- if .Values.agentlet.image.repository }}
{{- include "agentlet.reference" (dict "image" .Values.agentlet.image "tag" .Chart.AppVersion) }}
{{- else }}
{{- include "agentlet.webhookImage" . }}
{{- end }}
{{- end }}

{{/* Secret of the webhook's own authority. */}}
{{- define "agentlet.caSecret" -}}
{{ include "agentlet.fullname" . }}-webhook-ca
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

{{/* Namespaces whose pods never get an agentlet, as a JSON list. */}}
{{- define "agentlet.excludedNamespaces" -}}
{{ concat (list .Release.Namespace "kube-system") .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}
