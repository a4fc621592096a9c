package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	registerTimeout = 5 * time.Second
	registerRetry   = 200 * time.Millisecond
)

// register is a sidecar that registers its pod as a service without Agentlet. It registers at its start, and deregisters at
// SIGTERM. The Consul agent checks the application's /ready as often as in the examples of Consul's documentation.
func register(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("register %q: want the service's name", args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	agent := os.Getenv("CONSUL_HTTP_ADDR") + "/v1/agent/service/"
	body, err := json.Marshal(definition(args[0]))
	if err != nil {
		return fmt.Errorf("encode service: %w", err)
	}
	for err := put(ctx, agent+"register", body); err != nil; err = put(ctx, agent+"register", body) {
		fmt.Fprintln(os.Stderr, "register:", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(registerRetry):
		}
	}
	<-ctx.Done()
	return put(context.WithoutCancel(ctx), agent+"deregister/"+os.Getenv("POD_NAME"), nil)
}

// definition returns the service as Consul's HTTP API wants it. The UID is for those who watch the catalog.
func definition(service string) map[string]any {
	address, port := os.Getenv("POD_IP"), 8080
	return map[string]any{
		"ID": os.Getenv("POD_NAME"), "Name": service, "Address": address, "Port": port,
		"Meta": map[string]string{contract.MetaPodUID: os.Getenv("POD_UID")},
		"Check": map[string]any{
			"HTTP": fmt.Sprintf("http://%s:%d/ready", address, port), "Interval": "10s", "Timeout": "1s",
			"DeregisterCriticalServiceAfter": "1m",
		},
	}
}

func put(ctx context.Context, url string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return fmt.Errorf("the Consul agent answered %s: %s", response.Status, answer)
	}
	return nil
}
