package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// refusal is a set of flags that the webhook refuses at its start, and the values that lead to them, which the chart has to refuse
// before that: a Deployment whose pods end at once is all that anybody would see.
type refusal struct {
	flags []string
	// says is in the webhook's error.
	says string
	// values lead to these flags, as JSON. They are empty where no values do: the chart sets these flags, or not others.
	values string
	// told is in the chart's error: a sentence of _validate.tpl, or the schema's about a type or a word.
	told string
}

// damaged is a certificate of which a part is missing.
const damaged = "-----BEGIN CERTIFICATE-----\nMIIBcDCCARegAwIB\n-----END CERTIFICATE-----\n"

// refusals are those of each option, one error each.
var refusals = map[string]refusal{
	"no address": {flags: []string{"--listen=9443"}, says: `--listen "9443": want host:port or :port`},
	"no port": {
		[]string{"--metrics-listen=x"},
		`--metrics-listen "x": want host:port or :port`,
		`{"webhook": {"metricsPort": "x"}}`, "at '/webhook/metricsPort': got string, want integer",
	},
	"a shutdown before its time": {
		[]string{"--shutdown-delay=-1s"},
		`--shutdown-delay "-1s": want a duration of 0 or more`,
		`{"webhook": {"shutdownDelay": "-1s"}}`, `webhook.shutdownDelay="-1s": want a duration of at most 15s`,
	},
	"no image": {
		[]string{"--image="},
		"--image: Required value",
		`{"image": {"repository": ""}}`, "image.repository is needed, since nobody publishes the image",
	},
	"a pull policy": {
		[]string{"--image-pull-policy=Sometimes"},
		`--image-pull-policy: Unsupported value: "Sometimes"`,
		`{"agentlet": {"image": {"pullPolicy": "Sometimes"}}}`, "at '/agentlet/image/pullPolicy': value must be one of '', 'Always'",
	},
	"a pull secret": {
		[]string{"--image-pull-secrets=a,B_C"},
		`--image-pull-secrets[1]: Invalid value: "B_C"`,
		`{"agentlet": {"imagePullSecrets": [{"name": "a"}, {"name": "B_C"}]}}`, `agentlet.imagePullSecrets[1]="B_C": want the name of an object`,
	},
	"a user": {
		[]string{"--run-as-user=root"},
		`--run-as-user: Invalid value: "root"`,
		`{"agentlet": {"runAsUser": "root"}}`, `agentlet.runAsUser="root": want auto, none, or a number from 1 to 2147483647`,
	},
	"a user that is root": {
		[]string{"--run-as-user=0"},
		`--run-as-user: Invalid value: "0"`,
		`{"agentlet": {"runAsUser": 0}}`, `agentlet.runAsUser="0": want auto, none, or a number`,
	},
	"a security context": {
		[]string{`--security-context={"runAsUsr":1}`},
		`unknown field "runAsUsr"`,
		`{"agentlet": {"securityContext": {"runAsUsr": 1}}}`, "at '/agentlet/securityContext': additional properties 'runAsUsr' not allowed",
	},
	"a security context of pods": {
		[]string{`--security-context={"fsGroup":1}`},
		`unknown field "fsGroup"`,
		`{"agentlet": {"securityContext": {"fsGroup": 1}}}`, "at '/agentlet/securityContext': additional properties 'fsGroup' not allowed",
	},
	"privileges without their escalation": {
		[]string{`--security-context={"privileged":true}`},
		"--security-context.allowPrivilegeEscalation: Invalid value: false",
		`{"agentlet": {"securityContext": {"privileged": true}}}`,
		"agentlet.securityContext.privileged=true, and SYS_ADMIN, need agentlet.securityContext.allowPrivilegeEscalation=true",
	},
	"as good as privileged": {
		[]string{`--security-context={"capabilities":{"add":["SYS_ADMIN"]}}`},
		"--security-context.allowPrivilegeEscalation: Invalid value: false",
		`{"agentlet": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}}`, "and SYS_ADMIN, need agentlet.securityContext.allowPrivilegeEscalation=true",
	},
	"a user of a security context": {
		[]string{`--security-context={"runAsUser":1}`},
		"--security-context.runAsUser: Forbidden: set --run-as-user",
		`{"agentlet": {"securityContext": {"runAsUser": 1}}}`, "at '/agentlet/securityContext': additional properties 'runAsUser' not allowed",
	},
	"a group of a security context": {
		[]string{`--security-context={"runAsGroup":1}`},
		"--security-context.runAsGroup: Forbidden: set --run-as-user",
		`{"agentlet": {"securityContext": {"runAsGroup": 1}}}`, "at '/agentlet/securityContext': additional properties 'runAsGroup' not allowed",
	},
	"a seccomp profile": {
		[]string{`--security-context={"seccompProfile":{"type":"x"}}`},
		"--security-context.seccompProfile.type: Unsupported value",
		`{"agentlet": {"securityContext": {"seccompProfile": {"type": "x"}}}}`, "at '/agentlet/securityContext/seccompProfile/type': value must be one of 'RuntimeDefault'",
	},
	"a profile of no file": {
		[]string{`--security-context={"seccompProfile":{"type":"Localhost"}}`},
		"--security-context.seccompProfile.localhostProfile: Required value",
		`{"agentlet": {"securityContext": {"seccompProfile": {"type": "Localhost"}}}}`,
		"agentlet.securityContext.seccompProfile.type=Localhost needs agentlet.securityContext.seccompProfile.localhostProfile",
	},
	"a file of no profile": {
		[]string{`--security-context={"appArmorProfile":{"type":"Unconfined","localhostProfile":"a"}}`},
		"--security-context.appArmorProfile.localhostProfile: Invalid value",
		`{"agentlet": {"securityContext": {"appArmorProfile": {"type": "Unconfined", "localhostProfile": "a"}}}}`,
		"agentlet.securityContext.appArmorProfile.localhostProfile counts with agentlet.securityContext.appArmorProfile.type=Localhost only",
	},
	"a port of Consul's": {
		[]string{"--consul-port=0"},
		"--consul-port: Invalid value: 0",
		`{"consul": {"port": 0}}`, "at '/consul/port': minimum: got 0, want 1",
	},
	"a scheme": {
		[]string{"--consul-scheme=grpc"},
		`--consul-scheme: Unsupported value: "grpc"`,
		`{"consul": {"scheme": "grpc"}}`, "at '/consul/scheme': value must be one of 'http', 'https'",
	},
	"TLS, and HTTP": {
		[]string{"--consul-tls-server-name=a"},
		`--consul-scheme: Invalid value: "http"`,
		`{"consul": {"tls": {"serverName": "a"}}}`, "consul.tls.serverName counts with consul.scheme=https only, and the scheme is http",
	},
	"an authority, and HTTP": {
		[]string{"--consul-tls-configmap=a"},
		`--consul-scheme: Invalid value: "http"`,
		`{"consul": {"tls": {"configMapName": "a"}}}`, "consul.tls.configMapName counts with consul.scheme=https only",
	},
	"a client certificate, and HTTP": {
		[]string{"--consul-tls-secret=a"},
		`--consul-scheme: Invalid value: "http"`,
		`{"consul": {"tls": {"secretName": "a"}}}`, "consul.tls.secretName counts with consul.scheme=https only",
	},
	"a ConfigMap": {
		[]string{"--consul-scheme=https", "--consul-tls-configmap=A_B"},
		`--consul-tls-configmap: Invalid value: "A_B"`,
		`{"consul": {"scheme": "https", "tls": {"configMapName": "A_B"}}}`, `consul.tls.configMapName="A_B": want the name of an object`,
	},
	"a Secret for TLS": {
		[]string{"--consul-scheme=https", "--consul-tls-secret=A_B"},
		`--consul-tls-secret: Invalid value: "A_B"`,
		`{"consul": {"scheme": "https", "tls": {"secretName": "A_B"}}}`, `consul.tls.secretName="A_B": want the name of an object`,
	},
	"a server's name": {
		[]string{"--consul-scheme=https", "--consul-tls-server-name=a..b"},
		`--consul-tls-server-name: Invalid value: "a..b"`,
		`{"consul": {"scheme": "https", "tls": {"serverName": "a..b"}}}`, `consul.tls.serverName="a..b": want the name of a host`,
	},
	"no certificate": {
		[]string{"--consul-scheme=https", "--consul-tls-ca=ca.pem"},
		"--consul-tls-ca: Invalid value",
		`{"consul": {"scheme": "https", "tls": {"ca": "ca.pem"}}}`, "consul.tls.ca holds no certificate in PEM form",
	},
	"a damaged certificate": {
		[]string{"--consul-scheme=https", "--consul-tls-ca=" + damaged},
		"--consul-tls-ca: Invalid value",
		fmt.Sprintf(`{"consul": {"scheme": "https", "tls": {"ca": %q}}}`, damaged), "consul.tls.ca holds a certificate that is damaged",
	},
	"a key": {
		[]string{"--consul-scheme=https", "--consul-tls-ca=-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"},
		"every pod will show it",
		`{"consul": {"scheme": "https", "tls": {"ca": "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"}}}`, "consul.tls.ca holds a private key",
	},
	"a way to a token": {
		[]string{"--consul-acl=vault"},
		`--consul-acl: Unsupported value: "vault"`,
		`{"consul": {"acl": {"mode": "vault"}}}`, "at '/consul/acl/mode': value must be one of 'none', 'token', 'login'",
	},
	"a token from nowhere": {
		[]string{"--consul-acl=token"},
		"--consul-acl-secret: Required value: with --consul-acl=token",
		`{"consul": {"acl": {"mode": "token"}}}`, "consul.acl.mode=token needs consul.acl.secretName, a Secret in each pod's own namespace",
	},
	"a login at nothing": {
		[]string{"--consul-acl=login"},
		"--consul-auth-method: Required value: with --consul-acl=login",
		`{"consul": {"acl": {"mode": "login"}}}`, "consul.acl.mode=login needs consul.acl.authMethod",
	},
	"a Secret without a mode": {
		[]string{"--consul-acl-secret=a"},
		"counts with --consul-acl=token only",
		`{"consul": {"acl": {"secretName": "a"}}}`, "consul.acl.secretName counts with consul.acl.mode=token only, and the mode is none",
	},
	"a Secret for a login": {
		[]string{"--consul-acl=login", "--consul-auth-method=m", "--consul-acl-secret=a"},
		"counts with --consul-acl=token only",
		`{"consul": {"acl": {"mode": "login", "authMethod": "m", "secretName": "a"}}}`, "consul.acl.secretName counts with consul.acl.mode=token only, and the mode is login",
	},
	"a login without a mode": {
		[]string{"--consul-auth-method=m"},
		"counts with --consul-acl=login only",
		`{"consul": {"acl": {"authMethod": "m"}}}`, "consul.acl.authMethod counts with consul.acl.mode=login only, and the mode is none",
	},
	"an audience without a login": {
		[]string{"--consul-acl=token", "--consul-acl-secret=a", "--consul-audience=x"},
		`--consul-audience: Invalid value: "x": counts with --consul-acl=login only`,
		`{"consul": {"acl": {"mode": "token", "secretName": "a", "audience": "x"}}}`, "consul.acl.audience counts with consul.acl.mode=login only, and the mode is token",
	},
	"a Secret for a token": {
		[]string{"--consul-acl=token", "--consul-acl-secret=A_B"},
		`--consul-acl-secret: Invalid value: "A_B"`,
		`{"consul": {"acl": {"mode": "token", "secretName": "A_B"}}}`, `consul.acl.secretName="A_B": want the name of an object`,
	},
	"a proxy": {
		[]string{"--connect-image=i", "--connect-proxy=nginx"},
		`--connect-proxy: Unsupported value: "nginx"`,
		`{"connect": {"image": "i", "proxy": "nginx"}}`, "at '/connect/proxy': value must be one of 'envoy', 'builtin'",
	},
	"a proxy's pull policy": {
		[]string{"--connect-image=i", "--connect-image-pull-policy=x"},
		`--connect-image-pull-policy: Unsupported value: "x"`,
		`{"connect": {"image": "i", "imagePullPolicy": "x"}}`, "at '/connect/imagePullPolicy': value must be one of 'Always'",
	},
	"a proxy's port": {
		[]string{"--connect-image=i", "--connect-grpc-port=0"},
		"--connect-grpc-port: Invalid value: 0",
		`{"connect": {"image": "i", "grpcPort": 0}}`, "at '/connect/grpcPort': minimum: got 0, want 1",
	},
	"a proxy's Secret": {
		[]string{"--connect-image=i", "--connect-secret=A_B"},
		`--connect-secret: Invalid value: "A_B"`,
		`{"connect": {"image": "i", "secretName": "A_B"}}`, `connect.secretName="A_B": want the name of an object`,
	},
	"a proxy's login": {
		[]string{"--connect-image=i", "--connect-auth-method=m"},
		"--connect-auth-method: Invalid value",
		`{"connect": {"image": "i", "authMethod": "m"}}`, "connect.authMethod counts with consul.acl.mode=login only, and the mode is none",
	},
	"two tokens for a proxy": {
		[]string{"--connect-image=i", "--consul-acl=login", "--consul-auth-method=m", "--connect-auth-method=m", "--connect-secret=a"},
		"--connect-secret: Invalid value",
		`{"connect": {"image": "i", "authMethod": "m", "secretName": "a"}, "consul": {"acl": {"mode": "login", "authMethod": "m"}}}`, "connect.authMethod and connect.secretName are both set",
	},
	"a proxy that reads no authority": {
		[]string{"--connect-image=i", "--consul-scheme=https", "--consul-tls-ca=" + authority},
		"--connect-image: Invalid value",
		fmt.Sprintf(`{"connect": {"image": "i"}, "consul": {"scheme": "https", "tls": {"ca": %q}}}`, authority), "connect.image doesn't go with consul.tls.ca",
	},
	"a proxy's CPU request": {
		[]string{"--connect-image=i", "--connect-cpu-request=-1"},
		`--connect-cpu-request: Invalid value: "-1"`,
		`{"connect": {"image": "i", "resources": {"requests": {"cpu": -1}}}}`, `connect.resources.requests.cpu="-1": want a quantity`,
	},
	"a proxy's memory request": {
		[]string{"--connect-image=i", "--connect-memory-request=64MB"},
		`--connect-memory-request: Invalid value: "64MB"`,
		`{"connect": {"image": "i", "resources": {"requests": {"memory": "64MB"}}}}`, `connect.resources.requests.memory="64MB": want a quantity`,
	},
	"a proxy's CPU limit": {
		[]string{"--connect-image=i", "--connect-cpu-limit=x"},
		`--connect-cpu-limit: Invalid value: "x"`,
		`{"connect": {"image": "i", "resources": {"limits": {"cpu": "x"}}}}`, `connect.resources.limits.cpu="x": want a quantity`,
	},
	"a proxy's memory limit": {
		[]string{"--connect-image=i", "--connect-memory-limit=1 Gi"},
		`--connect-memory-limit: Invalid value: "1 Gi"`,
		`{"connect": {"image": "i", "resources": {"limits": {"memory": "1 Gi"}}}}`, `connect.resources.limits.memory="1 Gi": want a quantity`,
	},
	"a cluster's name": {
		[]string{"--cluster-name=" + strings.Repeat("x", 513)},
		"--cluster-name: Too long",
		`{"clusterName": "` + strings.Repeat("x", 513) + `"}`, "clusterName has 513 bytes: want at most 512",
	},
	"a default without a value": {flags: []string{"--default=drain-delay"}, says: `--default "drain-delay": want key=value`},
	"a default of no key":       {flags: []string{"--default==10s"}, says: `--default "=10s": want key=value`},
	"an unknown default": {
		[]string{"--default=no-such-key=1"},
		"--default[no-such-key]: Invalid value",
		`{"defaults": {"no-such-key": "1"}}`, "at '/defaults': additional properties 'no-such-key' not allowed",
	},
	"a default that is a pod's own": {
		[]string{"--default=service-names=web"},
		"--default[service-names]: Forbidden",
		`{"defaults": {"service-names": "web"}}`, "at '/defaults': additional properties 'service-names' not allowed",
	},
	"no globs of services": {
		[]string{"--allowed-services= "},
		"--allowed-services: Invalid value",
		`{"allowedServices": ""}`, "allowedServices is empty: a single * allows everything",
	},
	"an empty glob of services": {
		[]string{"--allowed-services=web,"},
		"--allowed-services: Invalid value",
		`{"allowedServices": "web,"}`, `allowedServices="web,": want globs of service names with commas between, such as web,shop-*,!vault, and one of the items is empty`,
	},
	"a glob of services": {
		[]string{"--allowed-services=web,a b"},
		"--allowed-services: Invalid value",
		`{"allowedServices": "web,a b"}`, `"a b" is no glob of at most 63 letters`,
	},
	"too many globs of services": {
		[]string{"--allowed-services=a" + strings.Repeat(",a", 64)},
		"--allowed-services: Invalid value",
		`{"allowedServices": "a` + strings.Repeat(",a", 64) + `"}`, "allowedServices has 65 globs: want at most 64",
	},
	"no globs of tags": {
		[]string{"--allowed-tags= "},
		"--allowed-tags: Invalid value",
		`{"allowedTags": " "}`, "allowedTags is empty: a single * allows everything",
	},
	"a glob of tags that denies nothing": {
		[]string{"--allowed-tags=!"},
		"--allowed-tags: Invalid value",
		`{"allowedTags": "!"}`, `"" is no glob of 1 to 128 bytes`,
	},
	"a glob of tags that Kubernetes expands": {
		[]string{"--allowed-tags=a$(B)"},
		"--allowed-tags: Invalid value",
		`{"allowedTags": "a$(B)"}`, `"a$(B)" holds a $`,
	},
	"a glob of tags with a control character": {
		[]string{"--allowed-tags=a\tb"},
		"--allowed-tags: Invalid value",
		`{"allowedTags": "a\tb"}`, "it holds a control character",
	},
	"a dialect": {
		[]string{"--dialect=latin"},
		`--dialect[0]: Unsupported value: "latin"`,
		`{"dialects": ["latin"]}`, "at '/dialects/0': value must be one of 'katalog-sync', 'consul-k8s'",
	},
	"a dialect twice": {
		[]string{"--dialect=consul-k8s", "--dialect=consul-k8s"},
		"--dialect[1]: Duplicate value",
		`{"dialects": ["consul-k8s", "consul-k8s"]}`, "at '/dialects': items at 0 and 1 are equal",
	},
	"a source of certificates": {
		[]string{"--certs=vault"},
		`--certs "vault": want self-signed or secret`,
		`{"certs": {"source": "vault"}}`, "at '/certs/source': value must be one of 'self-signed', 'cert-manager', 'secret'",
	},
	"a certificate of no Secret": {
		[]string{"--certs=secret", "--cert-secret="},
		`--cert-secret "": want the name of an object`,
		`{"certs": {"source": "secret"}}`, "certs.source=secret needs certs.secretName",
	},
	"a certificate's Secret": {
		[]string{"--certs=secret", "--cert-secret=A_B"},
		`--cert-secret "A_B": want the name of an object`,
		`{"certs": {"source": "secret", "secretName": "A_B"}}`, `certs.secretName="A_B": want the name of an object`,
	},
	"an authority in no Secret": {flags: []string{"--ca-secret="}, says: `--ca-secret "": want the name of an object`},
	"no webhook":                {flags: []string{"--webhook-configuration="}, says: `--webhook-configuration "": want the name of an object`},
	"a validating webhook": {
		flags: []string{"--validating-webhook-configuration=A_B"}, says: `--validating-webhook-configuration "A_B": want the name of an object`,
	},
	"no namespace": {flags: []string{"--namespace="}, says: `--namespace "": want the name of an object`},
	"a namespace": {
		[]string{"--namespace=A_B"},
		`--namespace "A_B": want the name of an object`,
		`{"namespaceOverride": "A_B"}`, `namespaceOverride="A_B": want the name of a namespace`,
	},
	"a service": {
		[]string{"--service=A_B"},
		`--service "A_B": want the name of an object`,
		`{"fullnameOverride": "A_B"}`, `the objects' name would be "A_B", from fullnameOverride`,
	},
	"who grants": {
		[]string{"--grants=list"},
		`--grants "list": want auto or none`,
		`{"grants": {"mode": "somebody"}}`, "at '/grants/mode': value must be one of 'auto', 'list'",
	},
	"grants by no binding": {flags: []string{"--grants=auto", "--grant-binding="}, says: `--grant-binding "": want the name of an object`},
	"grants of no role":    {flags: []string{"--grants=auto", "--grant-role="}, says: `--grant-role "": want the name of an object`},
	"grants that nothing bounds": {
		[]string{"--grants=auto", "--grant-policies="},
		`--grant-policies "": want the names of objects`,
		`{"policy": {"enabled": false}}`, "grants.mode=auto needs policy.enabled=true",
	},
	"a policy's name": {flags: []string{"--grants=auto", "--grant-policies=a,A_B"}, says: `--grant-policies "A_B": want the name of an object`},
	"an excluded namespace": {
		[]string{"--grants=auto", "--excluded-namespaces=a,B_C"},
		`--excluded-namespaces "B_C": want the name of an object`,
		`{"webhook": {"excludedNamespaces": ["a", "B_C"]}}`, `webhook.excludedNamespaces[1]="B_C": want the name of a namespace`,
	},
	"a log's format": {
		[]string{"--log-format=xml"},
		`--log-format: Unsupported value: "xml"`,
		`{"log": {"format": "xml"}}`, "at '/log/format': value must be one of 'json', 'text'",
	},
	"a log's level": {
		[]string{"--log-level=loud"},
		`--log-level "loud": want debug, info, warn or error`,
		`{"log": {"level": "loud"}}`, "at '/log/level': value must be one of 'debug', 'info', 'warn', 'error'",
	},
}

// authority is a certificate that is whole.
const authority = `-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUICRS/eFi7etMV/V+/uMCIOmyQpcwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTMwMTcyOTIwWhgPMjEyNjExMDYxNzI5MjBa
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbJayneuy
DRlHfTKBX3JHRdOZhgrkBdQMyqHju56eOf6L+OhQgW5WM9UPC23lYyqt3uVpCuHn
2mYlWebzA8wV4qNTMFEwHQYDVR0OBBYEFIiMUzaDQcErjjH7be607wjtySoWMB8G
A1UdIwQYMBaAFIiMUzaDQcErjjH7be607wjtySoWMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgHcbRgcnspkMM06pjAcJ1FDp4DXE9/qaYbY6+ufGH
ZmECIE105NmDjwrIEMjKohoNemyB0K8KRoCN7KDLALbuDcKD
-----END CERTIFICATE-----
`

// flagName finds the flags that an error names.
var flagName = regexp.MustCompile(`--([a-z]+(?:-[a-z]+)*)`)

// neverRefused are the flags that no value of theirs is refused for, before it is used.
var neverRefused = []string{"client-ca", "connect-arg", "keep-ca-bundle"}

// TestRefusals checks also that the flags exist that an error names: the injector and this command spell them each.
func TestRefusals(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	defaultOptions().addFlags(flags)
	for name, test := range refusals {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, append([]string{"--image=i", "--namespace=n"}, test.flags...)...)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("want %s, got %v", test.says, err)
			}
			for _, name := range flagName.FindAllStringSubmatch(err.Error(), -1) {
				if flags.Lookup(name[1]) == nil && name[1] != "consul-tls" { // --consul-tls-*
					t.Errorf("%s is named, and no flag: %v", name[0], err)
				}
			}
		})
	}
}

// TestEveryFlagHasARefusal checks that the table has a refusal of each flag.
func TestEveryFlagHasARefusal(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	defaultOptions().addFlags(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		named := regexp.MustCompile(`--` + f.Name + `($|[^-a-z])`)
		found := slices.Contains(neverRefused, f.Name)
		for _, test := range refusals {
			found = found || named.MatchString(test.says)
		}
		if !found {
			t.Errorf("no refusal of --%s", f.Name)
		}
	})
}

func TestEveryErrorIsNamedAtOnce(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	_, err := parse(t, "--listen=9443", "--certs=vault", "--log-level=loud", "--default=drain-delay", "--default=no-such-key=1", "--consul-port=0")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"--listen", "--certs", "--log-level", `--default "drain-delay"`, "no-such-key", "--consul-port", "--image", "--namespace",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named", want)
		}
	}
}

// render renders the chart with these values, as JSON, beside those that it needs.
func render(t *testing.T, values string) (string, error) {
	t.Helper()
	helm := os.Getenv("AGENTLET_TEST_HELM")
	if helm == "" {
		t.Skip("AGENTLET_TEST_HELM is not set; make unit sets it")
	}
	all := map[string]any{}
	if err := json.Unmarshal([]byte(values), &all); err != nil {
		t.Fatal(err)
	}
	image, _ := all["image"].(map[string]any)
	if _, given := image["repository"]; !given {
		all["image"] = map[string]any{"repository": "registry.example/agentlet"}
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	chart := filepath.Join("..", "..", "charts", "agentlet")
	// Go takes a test's result from its cache until a file or folder changes that the test itself has opened.
	if err := filepath.WalkDir(chart, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), helm, "template", "agentlet", chart, "--namespace=agentlet-system", "-f", "-")
	command.Stdin = bytes.NewReader(text)
	out, err := command.CombinedOutput()
	return string(out), err
}

// TestTheChartRefusesFirst runs each refusal through the chart.
func TestTheChartRefusesFirst(t *testing.T) {
	for name, test := range refusals {
		if test.values == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			out, err := render(t, test.values)
			if err == nil {
				t.Fatal("it is rendered")
			}
			if !strings.Contains(out, test.told) {
				t.Errorf("want %s, got %s", test.told, out)
			}
			if n := strings.Count(out, "\n- "); n != 1 && test.says != `--consul-scheme: Invalid value: "http"` {
				t.Errorf("%d problems, want one: %s", n, out)
			}
		})
	}
}

// tried are values of defaults, good and bad, by the kind of their form.
var tried = []struct {
	form *regexp.Regexp
	bad  []string
	good []string
}{
	{
		regexp.MustCompile("^a duration"),
		[]string{"", "5", "5 seconds", "-1s", "24h0m1s", "1d", "often", "999999h", "s", "1..5s", "h1"},
		[]string{"90s", "1m30s", "2m", "1h0.5s", "24h", " 61s ", "1m1h", "100000ms"},
	},
	{
		regexp.MustCompile("^a quantity"),
		[]string{"", "64MB", "-1", "0.5m", "1 Gi", "lots", "1e3", "Mi"},
		[]string{"0", "16Mi", "64M", "0.5Gi", "16777216"},
	},
	{
		regexp.MustCompile(`^a port number \(1-65535\)`),
		[]string{"", "0", "65536", "01", "-1", "+1", "web_", "a--b", "-web", "a-very-long-name-of-a-port", "1.5"},
		[]string{"1", "8080", "web", "http-1", "8080-tcp"},
	},
	{
		regexp.MustCompile(`^a port number \(1024-65535\)`),
		[]string{"", "1023", "65536", "web", "019500"},
		[]string{"1024", "65535", " 19500 "},
	},
	{
		regexp.MustCompile("^comma-separated (tags|container names)"),
		[]string{"a,,b", ",", "a\tb", "a\u202eb", "x" + strings.Repeat(",x", 64)},
		[]string{"", "a", "a, b", `a\,b`, `\,`, "a b"},
	},
	{
		regexp.MustCompile("^comma-separated pod label keys"),
		[]string{"a,,b", "a b", "-a", "a/b/c", "A.B/c", strings.Repeat("x", 64)},
		[]string{"", "app", "example.com/tier, app", "a.b_c"},
	},
	{
		regexp.MustCompile("^comma-separated key=label"),
		[]string{"a,,b", "a b", "=a", "k=", "k=a b", "a.b=c", "consul-x=a", "k8s-pod=a", "a=b,a=c", "x/a,y/a", "example.com/k8s.node."},
		[]string{"", "app", "example.com/tier.name", "a=app,b=app"},
	},
	{
		regexp.MustCompile("^key:value"),
		[]string{"a", "a:b,,c:d", "a b:c", ":b", "consul-x:a", "k8s-pod:a", "a:b,a:c", strings.Repeat("x", 129) + ":a", "a:" + strings.Repeat("x", 513)},
		[]string{"", "a:", "a:b:c", `a:b\,c`, "a : b", "A_b-1:x"},
	},
	{
		regexp.MustCompile("^[a-z-]+((, | or )[a-z-]+)+$"),
		[]string{"", "nothing", "True", "Info"},
		nil,
	},
}

// TestTheChartJudgesDefaultsAsTheWebhook has the webhook and the chart judge values for each key. The values are rendered together,
// one for each key at a time.
func TestTheChartJudgesDefaultsAsTheWebhook(t *testing.T) {
	refused := func(defaults map[string]string) (keys []string) {
		for _, err := range registration.ValidateDefaults(field.NewPath("defaults"), defaults) {
			keys = append(keys, strings.TrimSuffix(strings.TrimPrefix(err.Field, "defaults["), "]"))
		}
		slices.Sort(keys)
		return keys
	}
	var bad, good []map[string]string
	add := func(rounds *[]map[string]string, key string, values []string) {
		for i, value := range values {
			if i == len(*rounds) {
				*rounds = append(*rounds, map[string]string{})
			}
			(*rounds)[i][key] = value
		}
	}
	for _, key := range contract.Keys() {
		if !registration.Defaultable(key.Name) {
			continue
		}
		found := false
		for _, some := range tried {
			if some.form.MatchString(key.Form) {
				found = true
				add(&bad, contract.Short(key.Name), some.bad)
				add(&good, contract.Short(key.Name), some.good)
			}
		}
		if !found {
			t.Errorf("no values are tried for %s: %s", key.Name, key.Form)
		}
	}
	named := regexp.MustCompile(`(?m)^- (?:at '/defaults/|defaults\.)([a-z-]+)`)
	judge := func(t *testing.T, defaults map[string]string) {
		t.Helper()
		values, err := json.Marshal(map[string]any{"defaults": defaults})
		if err != nil {
			t.Fatal(err)
		}
		out, _ := render(t, string(values))
		var got []string
		for _, found := range named.FindAllStringSubmatch(out, -1) {
			got = append(got, found[1])
		}
		slices.Sort(got)
		if want := refused(defaults); !slices.Equal(got, want) {
			t.Errorf("of %q the webhook refuses %q, and the chart %q: %s", defaults, want, got, out[:min(len(out), 2000)])
		}
	}
	words := map[string]bool{}
	for _, key := range contract.Keys() {
		words[contract.Short(key.Name)] = tried[len(tried)-1].form.MatchString(key.Form)
	}
	for i, defaults := range bad {
		// What the schema refuses comes alone, before anything else is judged.
		for name, kind := range map[string]bool{"words": true, "others": false} {
			t.Run(fmt.Sprintf("bad %s %d", name, i), func(t *testing.T) {
				chosen := maps.Clone(defaults)
				maps.DeleteFunc(chosen, func(key, _ string) bool { return words[key] != kind })
				judge(t, chosen)
			})
		}
	}
	for i, defaults := range good {
		t.Run(fmt.Sprintf("good %d", i), func(t *testing.T) { judge(t, defaults) })
	}
	for name, together := range map[string]map[string]string{
		"reaped between heartbeats":               {"deregister-after": "1m", "heartbeat-ttl": "90s"},
		"heartbeats later than usually reaped":    {"heartbeat-ttl": "3m"},
		"reaped as usual":                         {"heartbeat-ttl": "2m"},
		"more CPU than its limit":                 {"cpu-request": "1", "cpu-limit": "500m"},
		"more memory than the usual limit":        {"memory-request": "65Mi"},
		"more memory, and no limit":               {"memory-request": "65Mi", "memory-limit": "0"},
		"a limit below the usual request":         {"memory-limit": "15Mi"},
		"zero for a timeout":                      {"gate-timeout": "0s"},
		"zero for the wait for Consul":            {"drain-timeout": "0"},
		"no delay":                                {"drain-delay": "0"},
		"never":                                   {"gate-timeout": "never"},
		"every word but never is no duration":     {"drain-timeout": "never"},
		"the least":                               {"heartbeat-ttl": "3s", "deregister-after": "1m", "memory-limit": "16Mi", "memory-request": "1Mi", "cpu-request": "1m"},
		"less than the least":                     {"heartbeat-ttl": "2.9s"},
		"more pairs of meta than are left by us":  {"service-meta": pairs(57)},
		"as many pairs of meta as are left by us": {"service-meta": pairs(56)},
	} {
		t.Run(name, func(t *testing.T) { judge(t, together) })
	}
}

// pairs returns so many pairs of meta.
func pairs(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("a%d:b", i))
	}
	return strings.Join(all, ",")
}
