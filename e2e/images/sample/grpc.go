package main

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

// healthServer serves gRPC's health protocol with the application's readiness.
type healthServer struct {
	health.UnimplementedHealthServer
	ready func() bool
}

func (h healthServer) Check(context.Context, *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	status := health.HealthCheckResponse_NOT_SERVING
	if h.ready() {
		status = health.HealthCheckResponse_SERVING
	}
	return &health.HealthCheckResponse{Status: status}, nil
}

// serveGRPC serves the health protocol on a port until the program ends.
func serveGRPC(port string, ready func() bool) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", ":"+port)
	if err != nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	server := grpc.NewServer()
	health.RegisterHealthServer(server, healthServer{ready: ready})
	return server.Serve(listener)
}
