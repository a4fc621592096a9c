package webhook

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// clientCARead is the least time between two reads of a ClientCA's file. It is read when a connection is opened.
const clientCARead = 10 * time.Second

// ClientCA holds the authorities that sign client certificates for the admission port. It is safe for concurrent use.
type ClientCA struct {
	file string
	log  *slog.Logger

	mu   sync.Mutex
	read time.Time // when the file was read
	text []byte    // what was in it, good or bad
	pool *x509.CertPool
}

// NewClientCA reads a file with certificates in PEM form. A change of the file counts for new connections after ten seconds
// at the latest. A file that can't be read is logged, and the last valid certificates stay in use.
func NewClientCA(file string, log *slog.Logger) (*ClientCA, error) {
	c := &ClientCA{file: file, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *ClientCA) load() error {
	c.read = time.Now()
	text, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("read client CA: %w", err)
	}
	if bytes.Equal(text, c.text) {
		return nil
	}
	c.text = text
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("read client CA: %s holds no certificate in PEM form", c.file)
	}
	c.pool = pool
	return nil
}

// certificates are those in use now, read again when it is time.
func (c *ClientCA) certificates() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= clientCARead {
		if err := c.load(); err != nil {
			c.log.Error("the former client CA stays", "error", err)
		}
	}
	return c.pool
}

// demand makes a server with this configuration require a client certificate.
func (c *ClientCA) demand(config *tls.Config) {
	demanding := config.Clone()
	demanding.ClientAuth = tls.RequireAndVerifyClientCert
	demanding.SessionTicketsDisabled = true // a resumed session would skip the check against the current authorities
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		own := demanding.Clone()
		own.ClientCAs = c.certificates()
		return own, nil
	}
}
