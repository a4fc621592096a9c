package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// TLS says how to trust the agent, and how to be trusted by it. Files are read for each new connection, because they change;
// those that aren't there are as if not named.
type TLS struct {
	// CA holds authorities in PEM form, CAFile a file with more of them. Without either the system's are trusted.
	CA, CAFile string
	// CertFile and KeyFile are the client certificate, for agents that ask for one.
	CertFile, KeyFile string
	// ServerName that the agent's certificate is for; DefaultServerName when empty. The node's address is rarely in it.
	ServerName string
}

// DefaultServerName is in the certificates that Consul makes for its agents and servers.
const DefaultServerName = "localhost"

// authoritySources are where the agentlet has authorities from, as the errors name them.
const authoritySources = "--consul-ca-file or $" + contract.EnvConsulCA

// handshakeTimeout bounds TLS's beginning.
const handshakeTimeout = 3 * time.Second

// dial opens a TLS connection.
func (t TLS) dial(dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		config, err := t.config()
		if err != nil {
			return nil, err
		}
		connection, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		secured := tls.Client(connection, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = connection.Close()
			return nil, err
		}
		return secured, nil
	}
}

// config of the next connection.
func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	authorities, err := readOptional(t.CAFile)
	if err != nil {
		return nil, err
	}
	if authorities = append([]byte(t.CA+"\n"), authorities...); strings.TrimSpace(string(authorities)) != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, problem("there is no certificate in " + authoritySources)
		}
	}
	certificate, err := readOptional(t.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := readOptional(t.KeyFile)
	if err != nil || len(certificate) == 0 || len(key) == 0 {
		return config, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, problem("--consul-client-cert and --consul-client-key are no pair: " + err.Error())
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func readOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, problem(err.Error())
	}
	return content, nil
}

// problem of TLS, in a text that stays the same from try to try.
type problem string

func (p problem) Error() string { return string(p) }

// Is makes it an answer that never came.
func (p problem) Is(target error) bool { return target == agentlet.ErrUnreachable }

// tlsProblem is what is wrong with TLS and what to do about it; nil where nothing is. Go's own texts hold the current time.
func tlsProblem(err error, serverName string) error {
	if said, ok := errors.AsType[problem](err); ok {
		return said
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return problem("its certificate is signed by an authority that is not in " + authoritySources)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason != x509.Expired || invalid.Cert == nil {
			return problem("its certificate is not valid: " + invalid.Error())
		}
		return problem(fmt.Sprintf("its certificate, or its authority's, is valid from %s to %s only",
			invalid.Cert.NotBefore.UTC().Format(time.DateTime), invalid.Cert.NotAfter.UTC().Format(time.DateTime)))
	}
	if other, ok := errors.AsType[x509.HostnameError](err); ok {
		return problem(fmt.Sprintf("its certificate is for %s, not for %s: set --consul-tls-server-name",
			strings.Join(other.Certificate.DNSNames, ", "), serverName))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return problem("it does not speak TLS at this port: see --consul-port and --consul-scheme")
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "remote error" {
		return problem("it refuses the client certificate, or the lack of one, in --consul-client-cert: " + operation.Err.Error())
	}
	return nil
}
