package injector

import (
	"crypto/x509"
	"encoding/pem"
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// ConsulTLS has the certificates of agentlets for their Consul agent, with the scheme https. ConfigMap and Secret are names in
// each pod's own namespace, because a pod can mount no others.
type ConsulTLS struct {
	// CA holds CA certificates in PEM form, which are written into each pod's specification. ConfigMap has them as ca.crt.
	CA, ConfigMap string
	// Secret with tls.crt and tls.key, for a Consul that requires client certificates, and ca.crt where there is no ConfigMap.
	Secret string
	// ServerName in the agents' certificates; the agentlet's default when empty.
	ServerName string
}

// ACLMode is where an agentlet's Consul token comes from.
type ACLMode string

// The modes.
const (
	ACLNone  ACLMode = "none"
	ACLToken ACLMode = "token"
	ACLLogin ACLMode = "login"
)

// ConsulACL is how agentlets get a token of Consul's ACL system.
type ConsulACL struct {
	// Mode; none when empty.
	Mode ACLMode
	// Secret in each pod's own namespace, with the key "token".
	Secret string
	// AuthMethod to log in with.
	AuthMethod string
	// Audience of a separate token to log in with, for auth methods of type jwt. Empty: the service account's token for the
	// API server, for auth methods of type kubernetes, which have the API server review it.
	Audience string
}

func (t *ConsulTLS) validate(scheme string) (errs field.ErrorList) {
	if scheme != "https" && *t != (ConsulTLS{}) {
		errs = append(errs, field.Invalid(flag("consul-scheme"), scheme, "must be https where one of --consul-tls-* is set"))
	}
	errs = append(errs, validateName(flag("consul-tls-configmap"), t.ConfigMap)...)
	errs = append(errs, validateName(flag("consul-tls-secret"), t.Secret)...)
	if t.ServerName != "" {
		for _, wrong := range validation.IsDNS1123Subdomain(t.ServerName) {
			errs = append(errs, field.Invalid(flag("consul-tls-server-name"), t.ServerName, wrong))
		}
	}
	if wrong := notCertificates(t.CA); wrong != "" {
		errs = append(errs, field.Invalid(flag("consul-tls-ca"), "", wrong)) // without the value, which may be a key
	}
	return errs
}

// notCertificates says what is wrong with text that should be certificates in PEM form; empty: nothing. An empty text is valid.
func notCertificates(text string) string {
	rest := []byte(text)
	for n := 0; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil && n == 0 && text != "":
			return "must be certificates in PEM form"
		case block == nil:
			return ""
		case block.Type != "CERTIFICATE":
			return "must hold certificates only, and has a " + block.Type + ": every pod will show it"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "must be certificates in PEM form: " + err.Error()
		}
	}
}

func (a *ConsulACL) validate() (errs field.ErrorList) {
	needs := func(name, value, mode string, needed bool) {
		switch {
		case needed && value == "":
			errs = append(errs, field.Required(flag(name), "with --consul-acl="+mode))
		case !needed && value != "":
			errs = append(errs, field.Invalid(flag(name), value, "counts with --consul-acl="+mode+" only"))
		}
	}
	switch a.Mode {
	case "", ACLNone, ACLToken, ACLLogin:
		needs("consul-acl-secret", a.Secret, string(ACLToken), a.Mode == ACLToken)
		needs("consul-auth-method", a.AuthMethod, string(ACLLogin), a.Mode == ACLLogin)
		if a.Mode != ACLLogin {
			needs("consul-audience", a.Audience, string(ACLLogin), false)
		}
	default:
		errs = append(errs, field.NotSupported(flag("consul-acl"), a.Mode, []ACLMode{ACLNone, ACLToken, ACLLogin}))
	}
	return append(errs, validateName(flag("consul-acl-secret"), a.Secret)...)
}

func validateName(at *field.Path, name string) (errs field.ErrorList) {
	if name != "" {
		for _, wrong := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(at, name, wrong))
		}
	}
	return errs
}

// mounted is the path of a file of the agentlet's volume.
func mounted(file string) string { return path.Join(contract.IdentityPath, file) }

// consulArgs are the agentlet's arguments for the connection with its Consul agent.
func (c *Config) consulArgs() (args []string) {
	if c.ConsulTLS.ServerName != "" {
		args = append(args, "--consul-tls-server-name="+c.ConsulTLS.ServerName)
	}
	if c.ConsulTLS.ConfigMap != "" || c.ConsulTLS.Secret != "" {
		args = append(args, "--consul-ca-file="+mounted(contract.ConsulCAFile))
	}
	if c.ConsulTLS.Secret != "" {
		args = append(args, "--consul-client-cert="+mounted(contract.ConsulCertFile),
			"--consul-client-key="+mounted(contract.ConsulKeyFile))
	}
	switch {
	case c.ConsulACL.Mode == ACLToken:
		args = append(args, "--consul-token-file="+mounted(contract.ConsulTokenFile))
	case c.ConsulACL.Mode != ACLLogin:
	case c.ConsulACL.Audience == "":
		args = append(args, "--consul-auth-method="+c.ConsulACL.AuthMethod,
			"--consul-bearer-token-file="+mounted(corev1.ServiceAccountTokenKey))
	default:
		args = append(args, "--consul-auth-method="+c.ConsulACL.AuthMethod,
			"--consul-bearer-token-file="+mounted(contract.ConsulBearerFile))
	}
	return args
}

// consulSources are the files for it in the agentlet's volume. They are optional, so that a pod starts also where its namespace
// lacks one, and the gate says what is missing.
func (c *Config) consulSources() (sources []corev1.VolumeProjection) {
	item := func(key, path string) corev1.KeyToPath { return corev1.KeyToPath{Key: key, Path: path} }
	secret := func(name string, items ...corev1.KeyToPath) {
		sources = append(sources, corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items, Optional: new(true),
		}})
	}
	pair := []corev1.KeyToPath{
		item(corev1.TLSCertKey, contract.ConsulCertFile), item(corev1.TLSPrivateKeyKey, contract.ConsulKeyFile),
	}
	authority := item(corev1.ServiceAccountRootCAKey, contract.ConsulCAFile)
	if c.ConsulTLS.ConfigMap != "" {
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: c.ConsulTLS.ConfigMap},
			Items:                []corev1.KeyToPath{authority}, Optional: new(true),
		}})
	} else {
		pair = append(pair, authority)
	}
	if c.ConsulTLS.Secret != "" {
		secret(c.ConsulTLS.Secret, pair...)
	}
	if c.ConsulACL.Secret != "" {
		secret(c.ConsulACL.Secret, item(contract.ConsulTokenKey, contract.ConsulTokenFile))
	}
	if c.ConsulACL.Audience != "" {
		sources = append(sources, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: c.ConsulACL.Audience, ExpirationSeconds: new(int64(tokenSeconds)), Path: contract.ConsulBearerFile,
		}})
	}
	return sources
}
