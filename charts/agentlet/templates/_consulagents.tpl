{{/*
Configuration of the Consul agents of consulAgents, as a JSON object. What is secret is in files of Secrets beside it:
_validate.tpl refuses values that are known to be secret.
Pods find the API as consul.scheme, consul.port and connect.grpcPort say.
*/}}
{{- define "agentlet.consulAgents.config" -}}
{{- $port := int .Values.consul.port }}
{{- $https := eq .Values.consul.scheme "https" }}
{{- $ports := dict ($https | ternary "https" "http") $port }}
{{- if .Values.connect.image }}
{{- $ports = set $ports ($https | ternary "grpc_tls" "grpc") (int .Values.connect.grpcPort) }}
{{- end }}
{{- with .Values.consulAgents }}
{{- $config := dict
  "server" false
  "datacenter" .datacenter
  "data_dir" "/consul/data"
  "retry_join" .retryJoin
  "retry_interval" "5s"
  "leave_on_terminate" false
  "skip_leave_on_interrupt" true
  "enable_script_checks" false
  "enable_local_script_checks" false
  "disable_remote_exec" true
  "disable_update_check" true
  "limits" (dict "http_max_conns_per_client" 1000)
  "ports" $ports }}
{{- if $https }}
{{- /* Plain HTTP is for commands in the agent's own container. */}}
{{- $config = set $config "addresses" (dict "http" "127.0.0.1") }}
{{- $ports = set $ports "http" (eq $port 8500 | ternary -1 8500) }}
{{- end }}
{{- if .tls.enabled }}
{{- $defaults := dict "ca_file" "/consul/tls/ca.crt" "verify_outgoing" true }}
{{- $tls := dict "defaults" $defaults "internal_rpc" (dict "verify_server_hostname" .tls.verifyServerHostname) }}
{{- if .tls.certSecretName }}
{{- $defaults = merge $defaults (dict "cert_file" "/consul/tls/tls.crt" "key_file" "/consul/tls/tls.key") }}
{{- end }}
{{- if .tls.autoEncrypt }}
{{- $encrypt := dict "tls" true }}
{{- with $.Values.consul.tls.serverName }}{{ $encrypt = set $encrypt "dns_san" (list .) }}{{ end }}
{{- $config = set $config "auto_encrypt" $encrypt }}
{{- $tls = set $tls "grpc" (dict "use_auto_cert" true) }}
{{- end }}
{{- $config = set $config "tls" $tls }}
{{- end }}
{{- if .acl.tokenSecretName }}
{{- $config = set $config "acl" (dict "enabled" true "default_policy" "deny") }}
{{- end }}
{{- mustMergeOverwrite $config (deepCopy (.extraConfig | default dict)) | toJson }}
{{- end }}
{{- end }}
