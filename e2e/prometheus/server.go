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

	"github.com/agentlet/agentlet/e2e/internal/daemon"
)

// Server is a Prometheus that runs until Stop.
type Server struct {
	*daemon.Daemon
	// URL of its HTTP server, on the loopback address.
	URL string
}

const callTimeout = 10 * time.Second

// Start starts a Prometheus with this configuration, whose data and configuration are kept in dir, and waits until it is
// ready.
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
	ready := func(ctx context.Context) error { _, err := s.get(ctx, "/-/ready", nil); return err }
	s.Daemon, err = daemon.Start(ctx, ready, program,
		"--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address, "--log.level=warn")
	return s, err
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

// Targets are what the server scrapes now, each by the labels that its discovery has told of it.
func (s *Server) Targets(ctx context.Context) ([]map[string]string, error) {
	body, err := s.get(ctx, "/api/v1/targets", url.Values{"state": {"active"}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				DiscoveredLabels map[string]string `json:"discoveredLabels"`
			} `json:"activeTargets"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("decode answer: %w", err)
	}
	var targets []map[string]string
	for _, t := range answer.Data.ActiveTargets {
		targets = append(targets, t.DiscoveredLabels)
	}
	return targets, nil
}
