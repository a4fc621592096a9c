package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// probe describes how to check whether a process is ready. It is plain data, so that the cluster's state file can hold it.
type probe struct {
	URL string // http://, https:// (without verification: the address is ours) or unix://
	// AnyStatus accepts every HTTP status. A Consul agent without a leader answers with errors, although it runs.
	AnyStatus bool `json:",omitempty"`
}

const (
	pollInterval = 50 * time.Millisecond
	probeTimeout = 3 * time.Second
)

// try runs the check once.
func (p probe) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if socket, ok := strings.CutPrefix(p.URL, "unix://"); ok {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return connection.Close()
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // self-signed, and only a health check
		DisableKeepAlives: true,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if !p.AnyStatus && response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", p.URL, response.Status)
	}
	return nil
}

// permanentError makes poll stop.
type permanentError struct{ error }

func permanent(err error) error { return permanentError{err} }

func (e permanentError) Unwrap() error { return e.error }

// poll calls try until it succeeds, fails permanently, or ctx ends. In the last case it returns the last error of try.
func poll(ctx context.Context, try func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[permanentError](err); ok {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err // keep the earlier error if ctx cut this try short: it says more
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

// lastLines returns the end of a log file, for an error message.
func lastLines(path string) string {
	const limit = 2000
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > limit {
		if _, err := file.Seek(-limit, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}
