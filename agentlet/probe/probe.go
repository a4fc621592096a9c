// Package probe is the registrar's adapter to its own pod's containers: it runs one of their probes, or calls one of their
// preStop hooks, once, by the kubelet's rules, against the pod's own IP.
package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// userAgent begins as the kubelet's does: that is what applications keep out of their logs.
const userAgent = "kube-probe/agentlet"

// Bounds of what is read of an answer. The kubelet reads as much of a body, too.
const (
	maxBody   = 10 << 10
	maxHeader = 64 << 10
	buffer    = 2 << 10
)

// Prober runs probes against one pod. As the kubelet's, its connections are new ones each time: a probe that rides on an
// old connection says nothing of whether clients can come.
type Prober struct {
	ip     string
	dialer *net.Dialer
	// plain speaks HTTP/1.1, and over TLS what the server prefers; h2 speaks HTTP/2 alone, with or without TLS.
	plain, h2 *http.Transport
}

var _ agentlet.Prober = (*Prober)(nil)

// New returns a prober for the pod with this IP.
func New(ip string) *Prober {
	dialer := &net.Dialer{Control: linger, KeepAlive: -1}
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext: dialer.DialContext,
			// Proxy stays nil, whatever the environment says.
			DisableKeepAlives:  true,
			DisableCompression: true,
			ForceAttemptHTTP2:  true,
			TLSClientConfig: &tls.Config{
				InsecureSkipVerify: true, //nolint:gosec // As the kubelet's: a certificate is for a name, and a probe goes to an IP.
			},
			MaxResponseHeaderBytes: maxHeader,
			ReadBufferSize:         buffer,
			WriteBufferSize:        buffer,
		}
	}
	p := &Prober{ip: ip, dialer: dialer, plain: transport(), h2: transport()}
	p.h2.Protocols = new(http.Protocols)
	p.h2.Protocols.SetHTTP2(true)
	p.h2.Protocols.SetUnencryptedHTTP2(true)
	return p
}

// linger shortens the time for which a closed connection holds its port to a second: five probes a second would otherwise
// keep hundreds.
func linger(_, _ string, raw syscall.RawConn) (err error) {
	controlled := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
	})
	return errors.Join(controlled, err)
}

// Probe implements agentlet.Prober. Its errors hold neither an ephemeral port nor anything of an answer's body.
func (p *Prober) Probe(ctx context.Context, probe registration.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, probe.Timeout)
	defer cancel()
	address := p.address(probe.Host, probe.Port)
	var err error
	switch {
	case probe.HTTPGet != nil:
		err = p.httpGet(ctx, address, probe.HTTPGet)
	case probe.GRPC != nil:
		err = p.grpc(ctx, address, probe.GRPC)
	default:
		err = p.connect(ctx, address)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", probe.Timeout)
	}
	return agentlet.RootCause(err)
}

// address is where a probe or a hook goes. An empty host is the pod's IP.
func (p *Prober) address(host string, port int) string {
	return net.JoinHostPort(cmp.Or(host, p.ip), strconv.Itoa(port))
}

func (p *Prober) connect(ctx context.Context, address string) error {
	connection, err := p.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}
