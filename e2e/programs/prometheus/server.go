// Package prometheus runs a Prometheus beside the scenarios.
package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/agentlet/agentlet/e2e/programs/daemon"
)

// Server is a Prometheus that runs until Stop.
type Server struct {
	*daemon.Daemon
	// URL is the server's address, on the loopback interface.
	URL string
}

const callTimeout = 10 * time.Second

// Start starts a Prometheus with this configuration, with its files in dir, and waits until it is ready.
func Start(ctx context.Context, program, dir string, config []byte) (*Server, error) {
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	address, err := daemon.FreeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{URL: "http://" + address}
	ready := func(ctx context.Context) error { return s.get(ctx, "/-/ready", nil, nil) }
	s.Daemon, err = daemon.Start(ctx, ready, program,
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	return s, err
}

// get requests a path, and decodes the answer's data into a value, unless that is nil.
func (s *Server) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	if into == nil {
		return nil
	}
	answer := struct {
		Data any `json:"data"`
	}{into}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return nil
}

// Sample is a series with its current value.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an expression at the current time.
func (s *Server) Query(ctx context.Context, expression string) ([]Sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		} `json:"result"`
	}
	if err := s.get(ctx, "/api/v1/query", url.Values{"query": {expression}}, &data); err != nil {
		return nil, err
	}
	var samples []Sample
	for _, r := range data.Result {
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

// Rules returns the alerts that the server has loaded.
func (s *Server) Rules(ctx context.Context) ([]Rule, error) {
	var data struct {
		Groups []struct {
			Rules []Rule `json:"rules"`
		} `json:"groups"`
	}
	if err := s.get(ctx, "/api/v1/rules", url.Values{"type": {"alert"}}, &data); err != nil {
		return nil, err
	}
	var rules []Rule
	for _, group := range data.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, nil
}

// Targets returns the current targets, each as the labels from its discovery.
func (s *Server) Targets(ctx context.Context) ([]map[string]string, error) {
	var data struct {
		ActiveTargets []struct {
			DiscoveredLabels map[string]string `json:"discoveredLabels"`
		} `json:"activeTargets"`
	}
	if err := s.get(ctx, "/api/v1/targets", url.Values{"state": {"active"}}, &data); err != nil {
		return nil, err
	}
	var targets []map[string]string
	for _, t := range data.ActiveTargets {
		targets = append(targets, t.DiscoveredLabels)
	}
	return targets, nil
}
