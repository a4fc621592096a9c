package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Server is a Prometheus that runs until Stop.
type Server struct {
	// URL of its HTTP server, on the loopback address.
	URL     string
	command *exec.Cmd
	output  bytes.Buffer
	ended   chan struct{}
}

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
	callTimeout  = 10 * time.Second
)

// Start starts a Prometheus with this configuration, whose data and configuration are kept in dir, and waits until it is
// ready.
func Start(ctx context.Context, programs Programs, dir string, config []byte) (*Server, error) {
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + address, ended: make(chan struct{})}
	s.command = exec.Command(programs.Server, //nolint:noctx // Stop ends it
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start prometheus: %w", err)
	}
	go func() {
		defer close(s.ended)
		_ = s.command.Wait() // how it ended is in its output
	}()
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		_, err := s.get(ctx, "/-/ready", nil)
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("prometheus ended: %s", s.output.String())
		case <-ctx.Done():
			return fmt.Errorf("wait for prometheus: %w", err)
		case <-ticker.C:
		}
	}
}

// freeAddress is one on which nobody listens now.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// Stop ends the process and waits until it has gone.
func (s *Server) Stop() error {
	_ = s.command.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("prometheus does not end"), s.command.Process.Kill())
	}
}

func (s *Server) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	return body, nil
}

// Sample is one series with its value now.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an expression now.
func (s *Server) Query(ctx context.Context, expression string) ([]Sample, error) {
	body, err := s.get(ctx, "/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	var samples []Sample
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("decode value: %w", err)
		}
		samples = append(samples, Sample{r.Metric, value})
	}
	return samples, nil
}

// Rule is an alert as the server has loaded it.
type Rule struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Health string `json:"health"`
	Error  string `json:"lastError"`
}

// Rules are the alerts that the server has loaded.
func (s *Server) Rules(ctx context.Context) ([]Rule, error) {
	body, err := s.get(ctx, "/api/v1/rules", url.Values{"type": {"alert"}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []Rule `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	var rules []Rule
	for _, group := range answer.Data.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, nil
}
