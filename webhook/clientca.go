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

// clientCARead is how often the file of a ClientCA is read at the most: with a new connection.
const clientCARead = 10 * time.Second

// ClientCA is who has to have signed the certificate that a client of the admission port shows. It is safe for concurrent use.
type ClientCA struct {
	file string
	log  *slog.Logger

	mu   sync.Mutex
	read time.Time // when the file was read
	text []byte    // what was in it, good or bad
	pool *x509.CertPool
}

// NewClientCA reads a file with certificates in PEM form. What is written into it later counts for connections ten
// seconds later at the latest; what can't be read is logged, and leaves it as it was.
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

// certificates are those that count now.
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

// demand has a server with that configuration demand a certificate of its clients.
func (c *ClientCA) demand(config *tls.Config) {
	demanding := config.Clone()
	demanding.ClientAuth = tls.RequireAndVerifyClientCert
	demanding.SessionTicketsDisabled = true // each connection is judged by who counts then
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		own := demanding.Clone()
		own.ClientCAs = c.certificates()
		return own, nil
	}
}
