{{/*
What is wrong with the values: nothing, or all of it at once, a problem a line. The schema knows types and words. Here is what the
webhook, or the API server, would refuse later, when a pod that doesn't start is all that is seen of it. A problem begins with the
value's name, as in values.yaml.
*/}}
{{- define "agentlet.validate" -}}
{{- $problems := list }}
{{- range list "names" "images" "security" "consul" "consulAgents" "connect" "defaults" "allowed" "certs" "webhook" "grants" "platform" "monitoring" }}
{{- range include (printf "agentlet.validate.%s" .) $ | splitList "\n" }}
{{- with trim . }}{{ $problems = append $problems . }}{{ end }}
{{- end }}
{{- end }}
{{- with $problems }}
{{- fail (printf "values that can't work:\n- %s" (join "\n- " .)) }}
{{- end }}
{{- end }}

{{/* Regular expressions for names. */}}
{{- define "agentlet.label" -}}^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?${{- end }}
{{- define "agentlet.subdomain" -}}^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*${{- end }}
{{- define "agentlet.qualified" -}}^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?${{- end }}

{{/* A problem where a value is not what a pattern says. The argument is a list of the value's path, the value, the pattern and what is wanted.
An empty value is no problem, unless a fifth argument says that it is needed. */}}
{{- define "agentlet.mismatch" -}}
{{- $value := index . 1 | default "" | toString }}
{{- if and (or $value (gt (len .) 4)) (not (regexMatch (index . 2) $value)) }}
{{ index . 0 }}={{ $value | quote }}: want {{ index . 3 }}
{{- end }}
{{- end }}

{{/* A problem where a value is no name of an object; the argument is a list of its path and the value. */}}
{{- define "agentlet.noName" -}}
{{- $value := index . 1 | default "" | toString }}
{{- if gt (len $value) 253 }}
{{ index . 0 }} has {{ len $value }} characters: want a name of at most 253
{{- else }}
{{- include "agentlet.mismatch" (list (index . 0) $value (include "agentlet.subdomain" .) "the name of an object: lower-case letters, digits, - and .") }}
{{- end }}
{{- end }}

{{/* Problems of a map of labels; the argument is a list of its path and the map. */}}
{{- define "agentlet.takenLabels" -}}
{{- $path := index . 0 }}
{{- range $key, $value := index . 1 }}
{{- if regexMatch "^(app[.]kubernetes[.]io/(name|instance|component|managed-by|version)|helm[.]sh/chart)$" $key }}
{{ $path }} has {{ $key }}, by which the chart's objects are found: want another label
{{- end }}
{{- end }}
{{- end }}

{{/* A regular expression for durations as Go has them, and the milliseconds of one. */}}
{{- define "agentlet.duration" -}}^(0|([0-9]{1,5}([.][0-9]{1,9})?(h|m|s|ms|us|µs|ns)){1,4}|[0-9]{1,9}(s|ms))${{- end }}
{{- define "agentlet.milliseconds" -}}
{{- $then := toDate "2006-01-02" "2001-01-01" }}
{{- sub (dateModify . $then).UnixMilli $then.UnixMilli }}
{{- end }}

{{/* A quantity's value, as a number with a fraction. */}}
{{- define "agentlet.amount" -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" . }}
{{- mulf (float64 $number) (get (dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824) (trimPrefix $number .)) }}
{{- end }}
{{- define "agentlet.quantity" -}}^[0-9]{1,12}([.][0-9]{1,9})?(m|k|M|G|Ki|Mi|Gi)?${{- end }}

{{/* What is wrong with a text that should be certificates in PEM form; nothing where it is empty. It never has the text in it, which may be
a key. A certificate is taken for one where its base64 holds as many bytes as its head says. */}}
{{- define "agentlet.noCertificates" -}}
{{- $text := . }}
{{- $blocks := regexFindAll "(?s)-----BEGIN [^-]*-----.*?-----END [^-]*-----" $text -1 }}
{{- if contains "PRIVATE KEY-----" $text }}
holds a private key, which everybody could read: want certificates only
{{- else if and $text (not $blocks) }}
holds no certificate in PEM form
{{- else }}
{{- $bad := "" }}
{{- range $blocks }}
{{- if not (hasPrefix "-----BEGIN CERTIFICATE-----" .) }}{{ $bad = "holds something else than certificates in PEM form" }}
{{- else }}
{{- $der := regexReplaceAll "-----[^-]*-----|\\s" . "" | b64dec }}
{{- $size := 0 }}
{{- if gt (len $der) 4 }}
{{- if eq (index $der 1 | int) 129 }}{{ $size = add 3 (index $der 2 | int) | int }}
{{- else if eq (index $der 1 | int) 130 }}{{ $size = add 4 (mul 256 (index $der 2 | int)) (index $der 3 | int) | int }}
{{- end }}
{{- end }}
{{- if or (ne $size (len $der)) (ne (index (print $der "?") 0 | int) 48) }}{{ $bad = "holds a certificate that is damaged" }}{{ end }}
{{- end }}
{{- end }}
{{- $bad }}
{{- end }}
{{- end }}

{{/* The items of a list with commas, `\,` for a comma that doesn't split, as JSON. */}}
{{- define "agentlet.items" -}}
{{- $items := list }}
{{- range . | replace "\\," "\u0001" | splitList "," }}{{ $items = append $items (trim . | replace "\u0001" ",") }}{{ end }}
{{- toJson $items }}
{{- end }}

{{- define "agentlet.validate.names" -}}
{{- $name := include "agentlet.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
the objects' name would be {{ quote $name }}, from fullnameOverride, nameOverride and the release: a Service's name has only lower-case letters, digits and -, and begins with a letter; set fullnameOverride
{{- end }}
{{- include "agentlet.takenLabels" (list "commonLabels" .Values.commonLabels) }}
{{- include "agentlet.takenLabels" (list "podLabels" .Values.podLabels) }}
{{- include "agentlet.takenLabels" (list "serviceAccount.labels" .Values.serviceAccount.labels) }}
{{- include "agentlet.takenLabels" (list "service.labels" (.Values.service | default dict).labels) }}
{{- include "agentlet.mismatch" (list "namespaceOverride" .Values.namespaceOverride (include "agentlet.label" .) "the name of a namespace") }}
{{- include "agentlet.noName" (list "serviceAccount.name" .Values.serviceAccount.name) }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
serviceAccount.create=false needs serviceAccount.name
{{- end }}
{{- if gt (len .Values.clusterName) 512 }}
clusterName has {{ len .Values.clusterName }} bytes: want at most 512, which is what a value of Consul's meta may have
{{- end }}
{{- end }}

{{- define "agentlet.validate.images" -}}
{{- if not .Values.image.repository }}
image.repository is needed, since nobody publishes the image: put that of a release into a registry of your own, and name it here, such as registry.example/agentlet
{{- end }}
{{- $global := .Values.global | default dict }}
{{- $agents := (.Values.consulAgents | default dict).image | default dict }}
{{- range $path, $registry := dict "global.imageRegistry" $global.imageRegistry "image.registry" .Values.image.registry "agentlet.image.registry" .Values.agentlet.image.registry "consulAgents.image.registry" $agents.registry }}
{{- include "agentlet.mismatch" (list $path $registry "^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?$" "a registry such as registry.example:5000, and a path if need be") }}
{{- end }}
{{- range $path, $image := dict "image" .Values.image "agentlet.image" .Values.agentlet.image "consulAgents.image" $agents }}
{{- include "agentlet.mismatch" (list (print $path ".repository") $image.repository "^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*$" "a repository without tag and digest, such as registry.example/agentlet") }}
{{- include "agentlet.mismatch" (list (print $path ".tag") $image.tag "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" "a tag such as 1.2.3") }}
{{- include "agentlet.mismatch" (list (print $path ".digest") $image.digest "^sha256:[0-9a-f]{64}$" "a digest: sha256: and 64 hexadecimal digits") }}
{{- end }}
{{- range $path, $secrets := dict "global.imagePullSecrets" $global.imagePullSecrets "imagePullSecrets" .Values.imagePullSecrets "agentlet.imagePullSecrets" .Values.agentlet.imagePullSecrets }}
{{- range $i, $secret := $secrets }}
{{- $name := kindIs "string" $secret | ternary $secret (get (kindIs "string" $secret | ternary dict $secret) "name") }}
{{- include "agentlet.noName" (list (printf "%s[%d]" $path $i) $name) }}
{{- if not $name }}
{{ $path }}[{{ $i }}] is empty: want the name of a Secret
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.security" -}}
{{- $user := include "agentlet.runAsUser" . }}
{{- if not (or (has $user (list "auto" "none")) (and (regexMatch "^[1-9][0-9]{0,9}$" $user) (le (int64 $user) 2147483647))) }}
agentlet.runAsUser={{ quote $user }}: want auto, none, or a number from 1 to 2147483647
{{- end }}
{{- with .Values.agentlet.securityContext }}
{{- $added := (.capabilities | default dict).add | default list }}
{{- if and (or .privileged (has "SYS_ADMIN" $added) (has "CAP_SYS_ADMIN" $added)) (not .allowPrivilegeEscalation) }}
agentlet.securityContext.privileged=true, and SYS_ADMIN, need agentlet.securityContext.allowPrivilegeEscalation=true
{{- end }}
{{- range $key := list "seccompProfile" "appArmorProfile" }}
{{- $path := print "agentlet.securityContext." $key }}
{{- with get $.Values.agentlet.securityContext $key }}
{{- if and (eq (.type | default "") "Localhost") (not .localhostProfile) }}
{{ $path }}.type=Localhost needs {{ $path }}.localhostProfile
{{- else if and .localhostProfile (ne (.type | default "") "Localhost") }}
{{ $path }}.localhostProfile counts with {{ $path }}.type=Localhost only
{{- else if not .type }}
{{ $path }} needs a type: RuntimeDefault, Unconfined or Localhost
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.consul" -}}
{{- $scheme := .Values.consul.scheme }}
{{- with .Values.consul.tls }}
{{- if ne $scheme "https" }}
{{- range $key := list "ca" "configMapName" "secretName" "serverName" }}
{{- if get $.Values.consul.tls $key }}
consul.tls.{{ $key }} counts with consul.scheme=https only, and the scheme is {{ $scheme }}
{{- end }}
{{- end }}
{{- end }}
{{- with include "agentlet.noCertificates" (.ca | default "") | trim }}
consul.tls.ca {{ . }}
{{- end }}
{{- include "agentlet.noName" (list "consul.tls.configMapName" .configMapName) }}
{{- include "agentlet.noName" (list "consul.tls.secretName" .secretName) }}
{{- include "agentlet.mismatch" (list "consul.tls.serverName" .serverName (include "agentlet.subdomain" .) "the name of a host") }}
{{- end }}
{{- with .Values.consul.acl }}
{{- $mode := .mode | default "none" }}
{{- if and (eq $mode "token") (not .secretName) }}
consul.acl.mode=token needs consul.acl.secretName, a Secret in each pod's own namespace with the key token
{{- end }}
{{- if and (eq $mode "login") (not .authMethod) }}
consul.acl.mode=login needs consul.acl.authMethod, the name of Consul's auth method
{{- end }}
{{- range $key, $needs := dict "secretName" "token" "authMethod" "login" "audience" "login" }}
{{- if and (get $.Values.consul.acl $key) (ne $mode $needs) }}
consul.acl.{{ $key }} counts with consul.acl.mode={{ $needs }} only, and the mode is {{ $mode }}
{{- end }}
{{- end }}
{{- include "agentlet.noName" (list "consul.acl.secretName" .secretName) }}
{{- include "agentlet.mismatch" (list "consul.acl.authMethod" .authMethod "^[-A-Za-z0-9_]{1,128}$" "an auth method's name: at most 128 letters, digits, - and _") }}
{{- end }}
{{- end }}

{{/* Regular expressions for a pair of retry_join that is a secret of a cloud's API, and for the provider that asks the API server. A key and
a value may be in quotes, with blanks around the equals sign. */}}
{{- define "agentlet.secretPair" -}}(?i)[a-z_]*(secret|token|password|passwd|api_key)[a-z_]*"?\s*=\s*\S{{- end }}
{{- define "agentlet.providerK8s" -}}(^|\s)"?provider"?\s*=\s*"?k8s("|\s|$){{- end }}

{{- define "agentlet.validate.consulAgents" -}}
{{- $consul := .Values.consul }}
{{- with .Values.consulAgents }}
{{- if .enabled }}
{{- if not .image.repository }}
consulAgents.enabled=true needs consulAgents.image.repository, an image of Consul, such as registry.example/consul
{{- end }}
{{- if not (or .image.tag .image.digest) }}
consulAgents.enabled=true needs consulAgents.image.tag, such as the servers' version, or consulAgents.image.digest
{{- end }}
{{- if not .retryJoin }}
consulAgents.enabled=true needs consulAgents.retryJoin, addresses of the Consul servers, such as consul-server.consul.svc
{{- end }}
{{- end }}
{{- range $i, $address := .retryJoin }}
{{- if not (trim $address) }}
consulAgents.retryJoin[{{ $i }}] is empty: want the address of a Consul server
{{- else if regexMatch (include "agentlet.secretPair" .) $address }}
consulAgents.retryJoin[{{ $i }}] has a secret, {{ regexFind (include "agentlet.secretPair" .) $address | splitList "=" | first | trimAll "\" " }}, and everybody could read it in the agents' ConfigMap: want addresses, or a provider that needs no secret, such as by the nodes' own rights
{{- else if regexMatch (include "agentlet.providerK8s" .) $address }}
consulAgents.retryJoin[{{ $i }}]={{ quote $address }} needs a token for the API server, which the agents don't have: name a headless Service of the servers, such as consul-server.consul.svc
{{- end }}
{{- end }}
{{- include "agentlet.mismatch" (list "consulAgents.datacenter" .datacenter "^[a-z0-9_-]+$" "the name of a Consul datacenter: lower-case letters, digits, - and _" "needed") }}
{{- range $path, $secret := dict "gossipKey.secretName" .gossipKey.secretName "tls.caSecretName" .tls.caSecretName "tls.certSecretName" .tls.certSecretName "acl.tokenSecretName" .acl.tokenSecretName }}
{{- include "agentlet.noName" (list (print "consulAgents." $path) $secret) }}
{{- end }}
{{- range $path, $key := dict "gossipKey.key" .gossipKey.key "tls.caKey" .tls.caKey "acl.tokenKey" .acl.tokenKey }}
{{- include "agentlet.mismatch" (list (print "consulAgents." $path) $key "^[-._A-Za-z0-9]{1,253}$" "a key of a Secret: letters, digits, -, _ and ." "needed") }}
{{- end }}
{{- if .tls.enabled }}
{{- if not .tls.caSecretName }}
consulAgents.tls.enabled=true needs consulAgents.tls.caSecretName, a Secret with the authority of the servers' certificates
{{- end }}
{{- if and .tls.autoEncrypt .tls.certSecretName }}
consulAgents.tls.autoEncrypt and consulAgents.tls.certSecretName are both set: an agent's certificate is from the servers, or from the Secret
{{- end }}
{{- else }}
{{- range $key := list "caSecretName" "autoEncrypt" "certSecretName" }}
{{- if get $.Values.consulAgents.tls $key }}
consulAgents.tls.{{ $key }} counts with consulAgents.tls.enabled=true only
{{- end }}
{{- end }}
{{- end }}
{{- if and .enabled (eq $consul.scheme "https") }}
{{- if not .tls.enabled }}
consul.scheme=https needs consulAgents.tls.enabled=true: the agents can't serve HTTPS without it
{{- else if not (or .tls.autoEncrypt .tls.certSecretName) }}
consul.scheme=https needs a certificate for the agents: consulAgents.tls.autoEncrypt=true or consulAgents.tls.certSecretName
{{- end }}
{{- if not (or $consul.tls.ca $consul.tls.configMapName $consul.tls.secretName) }}
consul.scheme=https with consulAgents.enabled=true needs the authority of the agents' certificates for pods: consul.tls.ca, consul.tls.configMapName or consul.tls.secretName
{{- end }}
{{- end }}
{{- $mode := $consul.acl.mode | default "none" }}
{{- if and .enabled (ne $mode "none") (not .acl.tokenSecretName) }}
consul.acl.mode={{ $mode }} needs consulAgents.acl.tokenSecretName: agents without a token of their own know no ACLs
{{- end }}
{{- if or (not (regexMatch "^(/[-A-Za-z0-9_.]+)+$" .dataPath)) (regexMatch "/[.]{1,2}(/|$)" .dataPath) }}
consulAgents.dataPath={{ quote .dataPath }}: want the absolute path of a folder, such as /var/lib/consul-agent
{{- end }}
{{- if not (and (contains "$(NODE_NAME)" .nodeName) (regexMatch "^[-A-Za-z0-9.]*$" (replace "$(NODE_NAME)" "" .nodeName))) }}
consulAgents.nodeName={{ quote .nodeName }}: want a name with $(NODE_NAME) in it, which differs from node to node, and else letters, digits, - and . only
{{- end }}
{{- $config := .extraConfig | default dict }}
{{- /* Consul takes a list of blocks for a block: the checks of what is in one would miss it. */}}
{{- range $key := list "acl" "addresses" "auto_config" "auto_encrypt" "limits" "ports" "tls" }}
{{- if and (hasKey $config $key) (not (kindIs "map" (get $config $key))) }}
consulAgents.extraConfig.{{ $key }} is no map: want one, as in Consul's configuration in JSON
{{- end }}
{{- end }}
{{- range $key, $_ := $config }}
{{- if regexMatch "^acl_.*token$" $key }}
consulAgents.extraConfig has {{ $key }}, which consulAgents.acl.tokenSecretName is for
{{- end }}
{{- end }}
{{- range $key, $value := dict "server" "enabled" "datacenter" "datacenter" "retry_join" "retryJoin" "node_name" "nodeName" "data_dir" "dataPath" "encrypt" "gossipKey" }}
{{- if hasKey $config $key }}
consulAgents.extraConfig has {{ $key }}, which {{ eq $key "server" | ternary "would make servers of the agents" (printf "consulAgents.%s is for" $value) }}
{{- end }}
{{- end }}
{{- range $key := list "bind_addr" "advertise_addr" "client_addr" }}
{{- if hasKey $config $key }}
consulAgents.extraConfig has {{ $key }}, which does nothing: the agents' addresses are those of their nodes and pods
{{- end }}
{{- end }}
{{- if $config.leave_on_terminate }}
consulAgents.extraConfig has leave_on_terminate=true, which would take all instances of a node out of the catalog whenever its agent restarts
{{- end }}
{{- range $path, $about := dict "acl.tokens" "consulAgents.acl.tokenSecretName is for" "auto_config.intro_token" "everybody could read in the agents' ConfigMap: write it into the file of consulAgents.gossipKey, which may hold any configuration, and is in a Secret" "ports.http" "consul.port and consul.scheme are for" "ports.https" "consul.port and consul.scheme are for" }}
{{- $parts := splitList "." $path }}
{{- $inner := get $config (first $parts) }}
{{- if kindIs "map" $inner }}
{{- if hasKey $inner (last $parts) }}
consulAgents.extraConfig has {{ $path }}, which {{ $about }}
{{- end }}
{{- end }}
{{- end }}
{{- $ports := get $config "ports" }}
{{- $ports = kindIs "map" $ports | ternary $ports dict }}
{{- $connect := $.Values.connect | default dict }}
{{- if .enabled }}
{{- $gossip := get $ports "serf_lan" | default 8301 | int }}
{{- range $path, $port := dict "consul.port" $consul.port "connect.grpcPort" ($connect.image | default "" | empty | ternary 0 $connect.grpcPort) }}
{{- if eq (int $port) $gossip }}
{{ $path }}={{ $port }} is the port of the agents' gossip, too: want another one, or another one of that as consulAgents.extraConfig.ports.serf_lan
{{- end }}
{{- end }}
{{- end }}
{{- if $connect.image }}
{{- range $key := list "grpc" "grpc_tls" }}
{{- if hasKey $ports $key }}
consulAgents.extraConfig has ports.{{ $key }}, which connect.grpcPort is for
{{- end }}
{{- end }}
{{- end }}
{{- include "agentlet.takenLabels" (list "consulAgents.podLabels" .podLabels) }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.connect" -}}
{{- with .Values.connect }}
{{- include "agentlet.noName" (list "connect.secretName" .secretName) }}
{{- include "agentlet.mismatch" (list "connect.authMethod" .authMethod "^[-A-Za-z0-9_]{1,128}$" "an auth method's name: at most 128 letters, digits, - and _") }}
{{- $mode := $.Values.consul.acl.mode | default "none" }}
{{- if and .authMethod (ne $mode "login") }}
connect.authMethod counts with consul.acl.mode=login only, and the mode is {{ $mode }}
{{- end }}
{{- if and .authMethod .secretName }}
connect.authMethod and connect.secretName are both set: the proxy's token is that of a login, or of the Secret
{{- end }}
{{- include "agentlet.mismatch" (list "connect.image" .image "^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$" "an image such as registry.example/envoy:1.2.3") }}
{{- if and .image (eq (int .grpcPort) (int $.Values.consul.port)) }}
connect.grpcPort and consul.port are both {{ .grpcPort }}: want two ports of the Consul agents
{{- end }}
{{- if and .image $.Values.consul.tls.ca }}
connect.image doesn't go with consul.tls.ca, which the proxy has in no file: set consul.tls.configMapName instead
{{- end }}
{{- $resources := .resources | default dict }}
{{- range $resource := list "cpu" "memory" }}
{{- $request := dig "requests" $resource "" $resources | toString }}
{{- $limit := dig "limits" $resource "" $resources | toString }}
{{- $quantity := include "agentlet.quantity" . }}
{{- if and (regexMatch $quantity $request) (regexMatch $quantity $limit) }}
{{- if gt (include "agentlet.amount" $request | float64) (include "agentlet.amount" $limit | float64) }}
connect.resources.requests.{{ $resource }}={{ $request }} is more than connect.resources.limits.{{ $resource }}={{ $limit }}
{{- end }}
{{- end }}
{{- end }}
{{- range $part, $amounts := .resources }}
{{- range $resource, $amount := $amounts }}
{{- include "agentlet.mismatch" (list (printf "connect.resources.%s.%s" $part $resource) $amount (include "agentlet.quantity" .) "a quantity such as 20m or 64Mi") }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.defaults" -}}
{{- $rules := .Files.Get "files/defaults.yaml" | fromYaml }}
{{- $wrong := dict }}
{{- range $key, $value := .Values.defaults }}
{{- with get $rules $key }}
{{- $problem := include (printf "agentlet.default.%s" .kind) (dict "rule" . "value" (trim $value)) | trim }}
{{- if $problem }}
defaults.{{ $key }}={{ $value | quote }}: {{ $problem }}
{{- $wrong = set $wrong $key $problem }}
{{- end }}
{{- end }}
{{- end }}
{{- if not $wrong }}
{{- /* What several say together, those that hold without a default of the installation's among them. */}}
{{- $in := dict }}
{{- range $key, $rule := $rules }}{{ $in = set $in $key (get $.Values.defaults $key | default ($rule.default | default "") | trim) }}{{ end }}
{{- $ttl := get $in "heartbeat-ttl" }}
{{- if lt (include "agentlet.milliseconds" (get $in "deregister-after") | int64) (include "agentlet.milliseconds" $ttl | int64) }}
defaults.deregister-after={{ get $in "deregister-after" }} is less than defaults.heartbeat-ttl={{ $ttl }}: an instance would be reaped between two heartbeats
{{- end }}
{{- range $resource := list "cpu" "memory" }}
{{- $request := get $in (print $resource "-request") }}
{{- $limit := get $in (print $resource "-limit") }}
{{- if and $request $limit }}
{{- if and (ne (include "agentlet.amount" $limit | float64) 0.0) (gt (include "agentlet.amount" $request | float64) (include "agentlet.amount" $limit | float64)) }}
defaults.{{ $resource }}-request={{ $request }} is more than defaults.{{ $resource }}-limit={{ $limit }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is wrong with one default, by the kind of its rule; the argument is a dict with the rule and the value. Words are the schema's. */}}
{{- define "agentlet.default.words" -}}{{- end }}

{{- define "agentlet.default.duration" -}}
{{- if not (has .value (.rule.words | default list)) }}
{{- $ms := include "agentlet.milliseconds" .value | int64 }}
{{- if or (not .value) (not (regexMatch (include "agentlet.duration" .) .value)) }}want {{ .rule.form }}
{{- else if lt $ms (include "agentlet.milliseconds" .rule.least | int64) }}want {{ .rule.form }}, and it is less than {{ .rule.least }}
{{- else if gt $ms (include "agentlet.milliseconds" .rule.most | int64) }}want {{ .rule.form }}, and it is more than {{ .rule.most }}
{{- else if and .rule.zero (not (regexMatch "[1-9]" .value)) }}{{ .rule.zero }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.default.quantity" -}}
{{- if not (regexMatch (include "agentlet.quantity" .) .value) }}want {{ .rule.form }}
{{- else }}
{{- $amount := include "agentlet.amount" .value | float64 }}
{{- if and (ne $amount 0.0) (lt $amount (include "agentlet.amount" .rule.least | float64)) }}want {{ .rule.form }}, and it is less than {{ .rule.least }}{{ end }}
{{- end }}
{{- end }}

{{- define "agentlet.default.port" -}}
{{- $number := regexMatch "^[1-9][0-9]{0,4}$" .value }}
{{- $name := and .rule.names (regexMatch "^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$" .value) (regexMatch "[a-z]" .value) (not (contains "--" .value)) }}
{{- if not (or $name (and $number (ge (int .value) (int (index .rule.ports 0))) (le (int .value) (int (index .rule.ports 1))))) }}want {{ .rule.form }}{{ end }}
{{- end }}

{{- define "agentlet.default.tags" -}}
{{- $items := include "agentlet.items" .value | fromJsonArray }}
{{- if .value }}
{{- if has "" $items }}want {{ .rule.form }}, and one of the items is empty
{{- else if gt (len $items) 64 }}want {{ .rule.form }}, and it has more than 64 items
{{- else if regexMatch "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]" .value }}want {{ .rule.form }}, and it holds a control character
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.default.labels" -}}
{{- with include "agentlet.default.tags" . }}{{ . }}
{{- else }}
{{- $problem := "" }}
{{- range include "agentlet.items" .value | fromJsonArray }}
{{- if and . (not (regexMatch (include "agentlet.qualified" $) .)) }}{{ $problem = printf "want %s, and %q is no label key" $.rule.form . }}{{ end }}
{{- end }}
{{- $problem }}
{{- end }}
{{- end }}

{{/* What is wrong with a key of meta; the argument is a dict with the rule, the key, and the keys before it. */}}
{{- define "agentlet.metaKey" -}}
{{- if not (regexMatch "^[A-Za-z0-9_-]{1,128}$" .key) }}{{ printf "%q is no key of meta: at most 128 letters, digits, - and _" .key }}
{{- else if hasPrefix "consul-" .key }}{{ printf "Consul keeps keys that start with consul- for itself: %q" .key }}
{{- else if has .key .rule.reserved }}{{ printf "%q is set by agentlet" .key }}
{{- else if has .key .before }}{{ printf "the key %q is there twice" .key }}
{{- end }}
{{- end }}

{{- define "agentlet.default.meta" -}}
{{- $listed := include "agentlet.default.tags" . }}
{{- if $listed }}{{ $listed }}
{{- else if .value }}
{{- $problem := "" }}
{{- $keys := list }}
{{- range include "agentlet.items" .value | fromJsonArray }}
{{- $key := splitList ":" . | first | trim }}
{{- $text := trimPrefix ":" (regexFind ":(?s:.*)$" .) | trim }}
{{- if not (contains ":" .) }}{{ $problem = printf "%q has no colon" . }}
{{- else if gt (len $text) 512 }}{{ $problem = printf "the value of %q has more than 512 bytes" $key }}
{{- else }}
{{- with include "agentlet.metaKey" (dict "rule" $.rule "key" $key "before" $keys) }}{{ $problem = . }}{{ end }}
{{- end }}
{{- $keys = append $keys $key }}
{{- end }}
{{- if and (not $problem) (gt (len $keys) (sub 64 (len .rule.reserved) | int)) }}{{ $problem = printf "a service may have %d pairs of its own" (sub 64 (len .rule.reserved)) }}{{ end }}
{{- with $problem }}want {{ $.rule.form }}, and {{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "agentlet.default.metaLabels" -}}
{{- $listed := include "agentlet.default.tags" . }}
{{- if $listed }}{{ $listed }}
{{- else if .value }}
{{- $problem := "" }}
{{- $keys := list }}
{{- range include "agentlet.items" .value | fromJsonArray }}
{{- $key := regexReplaceAll "^.*/" . "" | replace "." "_" }}
{{- $label := . }}
{{- if contains "=" . }}{{ $key = splitList "=" . | first | trim }}{{ $label = regexReplaceAll "^[^=]*=" . "" | trim }}{{ end }}
{{- if not (regexMatch (include "agentlet.qualified" $) $label) }}{{ $problem = printf "%q is no label key" $label }}
{{- else }}
{{- with include "agentlet.metaKey" (dict "rule" $.rule "key" $key "before" $keys) }}{{ $problem = . }}{{ end }}
{{- end }}
{{- $keys = append $keys $key }}
{{- end }}
{{- with $problem }}want {{ $.rule.form }}, and {{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.allowed" -}}
{{- range $key, $form := dict "allowedServices" "globs of service names with commas between, such as web,shop-*,!vault" "allowedTags" "globs of tags with commas between, such as v*,blue,!urlprefix-*" }}
{{- $text := get $.Values.AsMap $key }}
{{- $items := include "agentlet.items" $text | fromJsonArray }}
{{- $path := print $key "=" (quote $text) }}
{{- if not (trim $text) }}
{{ $key }} is empty: a single * allows everything
{{- else if has "" $items }}
{{ $path }}: want {{ $form }}, and one of the items is empty
{{- else if gt (len $items) 64 }}
{{ $key }} has {{ len $items }} globs: want at most 64
{{- else if regexMatch "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}]" $text }}
{{ $path }}: want {{ $form }}, and it holds a control character
{{- else }}
{{- range $items }}
{{- $glob := trimPrefix "!" . | trim }}
{{- if and (eq $key "allowedServices") (not (regexMatch "^[-A-Za-z0-9_.*?]{1,63}$" $glob)) }}
{{ $path }}: want {{ $form }}, and {{ quote $glob }} is no glob of at most 63 letters, digits, -, _, ., * and ?
{{- else if or (not $glob) (gt (len $glob) 128) }}
{{ $path }}: want {{ $form }}, and {{ quote $glob }} is no glob of 1 to 128 bytes
{{- else if contains "$" $glob }}
{{ $path }}: want {{ $form }}, and {{ quote $glob }} holds a $, which Kubernetes expands in a container's arguments; write ? for it
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.certs" -}}
{{- with .Values.certs }}
{{- if and (eq .source "secret") (not .secretName) }}
certs.source=secret needs certs.secretName, the Secret with tls.crt and tls.key
{{- end }}
{{- if ne .source "secret" }}
{{- range $key := list "secretName" "caBundle" }}
{{- if get $.Values.certs $key }}
certs.{{ $key }} counts with certs.source=secret only, and the source is {{ $.Values.certs.source }}
{{- end }}
{{- end }}
{{- end }}
{{- include "agentlet.noName" (list "certs.secretName" .secretName) }}
{{- with .caBundle }}
{{- if not (regexMatch "^[A-Za-z0-9+/=]+$" .) }}
certs.caBundle is not base64: want the certificates in PEM form in base64, in one line
{{- else }}
{{- with include "agentlet.noCertificates" (b64dec .) | trim }}
certs.caBundle {{ . }}, in base64
{{- end }}
{{- end }}
{{- end }}
{{- if and .certManager.issuerRef (not .certManager.issuerRef.name) }}
certs.certManager.issuerRef needs a name
{{- end }}
{{- $form := "a duration such as 2160h" }}
{{- $duration := .certManager.duration | default "" }}
{{- include "agentlet.mismatch" (list "certs.certManager.duration" $duration "^([0-9]{1,6}(s|m|h))+$" $form) }}
{{- if and (eq .source "cert-manager") (regexMatch "^([0-9]{1,6}(s|m|h))+$" $duration) }}
{{- $ms := include "agentlet.milliseconds" $duration | int64 }}
{{- if lt $ms 3600000 }}
certs.certManager.duration={{ quote $duration }}: want {{ $form }}, and cert-manager takes none of less than 1h
{{- else if and (not .certManager.issuerRef) (ge $ms (include "agentlet.milliseconds" (include "agentlet.authorityDuration" .) | int64)) }}
certs.certManager.duration={{ quote $duration }}: want {{ $form }}, and less than the {{ include "agentlet.authorityDuration" . }} of the authority that the chart makes
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.webhook" -}}
{{- with .Values.webhook }}
{{- if eq (int .port) (int .metricsPort) }}
webhook.port and webhook.metricsPort are both {{ .port }}: want two ports
{{- end }}
{{- $delay := include "agentlet.milliseconds" .shutdownDelay | int64 }}
{{- if or (not .shutdownDelay) (not (regexMatch (include "agentlet.duration" .) .shutdownDelay)) (gt $delay 15000) }}
webhook.shutdownDelay={{ quote .shutdownDelay }}: want a duration of at most 15s, such as 5s
{{- else if lt (mul 1000 $.Values.terminationGracePeriodSeconds) (add $delay 10000) }}
terminationGracePeriodSeconds={{ $.Values.terminationGracePeriodSeconds }}: want webhook.shutdownDelay={{ .shutdownDelay }} and ten seconds more
{{- end }}
{{- with include "agentlet.noCertificates" (.clientCA | default "") | trim }}
webhook.clientCA {{ . }}
{{- end }}
{{- range $i, $namespace := .excludedNamespaces }}
{{- include "agentlet.mismatch" (list (printf "webhook.excludedNamespaces[%d]" $i) $namespace (include "agentlet.label" $) "the name of a namespace" "needed") }}
{{- end }}
{{- $optIn := get ((.namespaceSelector | default dict).matchLabels | default dict) "agentlet.dev/inject" }}
{{- if and $optIn (ne $optIn "enabled") }}
webhook.namespaceSelector.matchLabels has agentlet.dev/inject={{ $optIn }}: want another label, since namespaces opt in by agentlet.dev/inject=enabled
{{- end }}
{{- range $i, $kind := .workloads.customKinds }}
{{- include "agentlet.mismatch" (list (printf "webhook.workloads.customKinds[%d].apiGroup" $i) $kind.apiGroup "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$" "one API group, with a dot in it, such as argoproj.io" "needed") }}
{{- if not $kind.resources }}
webhook.workloads.customKinds[{{ $i }}].resources is empty: want the kind's plural, such as rollouts
{{- end }}
{{- range $k, $resource := $kind.resources }}
{{- include "agentlet.mismatch" (list (printf "webhook.workloads.customKinds[%d].resources[%d]" $i $k) $resource "^[a-z][-a-z0-9]*$" "the kind's plural, such as rollouts" "needed") }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.grants" -}}
{{- if and (eq .Values.grants.mode "auto") (not .Values.policy.enabled) }}
grants.mode=auto needs policy.enabled=true: the webhook grants nothing that the policy does not bound
{{- end }}
{{- range $i, $namespace := .Values.grants.namespaces }}
{{- include "agentlet.mismatch" (list (printf "grants.namespaces[%d]" $i) $namespace (include "agentlet.label" $) "the name of a namespace" "needed") }}
{{- end }}
{{- range $i, $type := .Values.policy.conditionTypes }}
{{- include "agentlet.mismatch" (list (printf "policy.conditionTypes[%d]" $i) $type "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" "a condition's type with its domain, such as example.com/ready" "needed") }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.platform" -}}
{{- if and .Values.hostNetwork (eq (toString .Values.networkPolicy.enabled) "true") }}
networkPolicy.enabled=true does nothing with hostNetwork=true: a NetworkPolicy is for pods with a network of their own
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $given := list }}
{{- range list .minAvailable .maxUnavailable }}{{ if not (has (toString .) (list "" "<nil>")) }}{{ $given = append $given . }}{{ end }}{{ end }}
{{- if eq (len $given) 2 }}
podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set: a budget has one of them
{{- end }}
{{- range $key := list "minAvailable" "maxUnavailable" }}
{{- include "agentlet.mismatch" (list (print "podDisruptionBudget." $key) (get $.Values.podDisruptionBudget $key) "^([0-9]+|[0-9]{1,2}%|100%)$" "a number, or a percentage such as 50%") }}
{{- end }}
{{- $replicas := int $.Values.replicas }}
{{- $least := trimSuffix "%" (toString .minAvailable) | int }}
{{- /* Kubernetes rounds a percentage up. */}}
{{- if hasSuffix "%" (toString .minAvailable) }}{{ $least = div (add (mul $least $replicas) 99) 100 | int }}{{ end }}
{{- if and .enabled (gt $replicas 1) (ge $least $replicas) }}
podDisruptionBudget.minAvailable={{ .minAvailable }} of replicas={{ $replicas }} would hold every replica on its node for ever: want less
{{- end }}
{{- if has (toString .maxUnavailable) (list "0" "0%") }}
podDisruptionBudget.maxUnavailable={{ .maxUnavailable }} would hold every replica on its node for ever: want more
{{- end }}
{{- end }}
{{- if and (.Values.resourceQuota | default dict).enabled (not .Values.priorityClassName) }}
resourceQuota.enabled=true needs priorityClassName, whose pods the quota is for
{{- end }}
{{- with .Values.consulAgents }}
{{- if and .enabled .priorityClassName ($.Values.resourceQuota | default dict).enabled (eq .priorityClassName $.Values.priorityClassName) }}
consulAgents.priorityClassName={{ .priorityClassName }} is the webhook's priorityClassName, so resourceQuota.pods would bound the agents, too: want another one
{{- end }}
{{- end }}
{{- end }}

{{- define "agentlet.validate.monitoring" -}}
{{- $duration := "^(0|(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$" }}
{{- range $path := list "serviceMonitor" "podMonitor" "prometheusRule" }}
{{- with get $.Values.AsMap $path }}
{{- include "agentlet.takenLabels" (list (print $path ".labels") .labels) }}
{{- include "agentlet.mismatch" (list (print $path ".interval") .interval $duration "a duration such as 30s") }}
{{- include "agentlet.mismatch" (list (print $path ".scrapeTimeout") .scrapeTimeout $duration "a duration such as 10s") }}
{{- if and .interval .scrapeTimeout (regexMatch (include "agentlet.duration" .) .interval) (gt (include "agentlet.milliseconds" .scrapeTimeout | int64) (include "agentlet.milliseconds" .interval | int64)) }}
{{ $path }}.scrapeTimeout={{ .scrapeTimeout }} is more than {{ $path }}.interval={{ .interval }}
{{- end }}
{{- range $i, $namespace := .namespaces }}
{{- include "agentlet.mismatch" (list (printf "%s.namespaces[%d]" $path $i) $namespace (include "agentlet.label" $) "the name of a namespace" "needed") }}
{{- end }}
{{- end }}
{{- end }}
{{- $alerts := list }}
{{- range (.Files.Get "files/alerts.yaml" | fromYaml).groups }}
{{- range .rules }}{{ $alerts = append $alerts .alert }}{{ end }}
{{- end }}
{{- range $key := list "disabled" "severities" }}
{{- range $alert, $_ := get $.Values.prometheusRule $key | default dict }}
{{- if not (has $alert $alerts) }}
prometheusRule.{{ $key }} has {{ $alert }}, and there is no such alert: want {{ join ", " $alerts }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.dashboards }}
{{- include "agentlet.mismatch" (list "dashboards.namespace" .namespace (include "agentlet.label" .) "the name of a namespace") }}
{{- include "agentlet.mismatch" (list "dashboards.label" .label (include "agentlet.qualified" .) "a label's key, such as grafana_dashboard" "needed") }}
{{- end }}
{{- end }}
