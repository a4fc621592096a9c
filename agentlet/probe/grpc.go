package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
)

// The gRPC health protocol, grpc.health.v1, is one unary call with one field each way. Written by hand it costs a page;
// the library would make each pod's agentlet megabytes larger.
const (
	healthPath  = "/grpc.health.v1.Health/Check"
	contentType = "application/grpc"
	serving     = 1 // HealthCheckResponse.SERVING
)

// grpc succeeds when the server says that the service is serving.
func (p *Prober) grpc(ctx context.Context, address string, action *corev1.GRPCAction) error {
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	scheme := "http"
	if action.Mode != nil && *action.Mode == corev1.GRPCProbeModeTLS {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+address+healthPath,
		bytes.NewReader(frame(healthRequest(service))))
	if err != nil {
		return err
	}
	request.Header = http.Header{"Content-Type": {contentType}, "Te": {"trailers"}, "User-Agent": {userAgent}}
	response, err := p.h2.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d, where gRPC answers 200", response.StatusCode)
	}
	status := response.Trailer.Get("Grpc-Status")
	if status == "" {
		status = response.Header.Get("Grpc-Status") // an answer that is an error alone comes without a body
	}
	if status != "0" {
		return fmt.Errorf("gRPC status %.20q", status)
	}
	health, err := parseHealth(body)
	if err != nil {
		return err
	}
	if health != serving {
		return fmt.Errorf("gRPC health %d, not serving", health)
	}
	return nil
}

// frame puts gRPC's prefix before a message: not compressed, and its length.
func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// healthRequest encodes a HealthCheckRequest: the service's name is field 1.
func healthRequest(service string) []byte {
	if service == "" {
		return nil
	}
	return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service))), service...)
}

var errNoHealth = errors.New("the answer is no gRPC health")

// framePrefix is the length of what frame puts before a message.
const framePrefix = 5

// parseHealth reads the status, field 1, out of a framed HealthCheckResponse; 0, unknown, where it is left out. Fields
// that later versions may add are skipped.
func parseHealth(body []byte) (health uint64, err error) {
	if len(body) < framePrefix || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-framePrefix) {
		return 0, errNoHealth
	}
	for message := body[framePrefix:]; len(message) > 0; {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return 0, errNoHealth
		}
		var value uint64
		if value, message, err = field(message[n:], tag&7); err != nil {
			return 0, err
		}
		if tag == 1<<3 {
			health = value
		}
	}
	return health, nil
}

// field reads one field's value of a wire type, and returns what comes after it. Only a varint's value is returned.
func field(message []byte, kind uint64) (value uint64, rest []byte, err error) {
	var skip uint64
	switch kind {
	case 0:
		value, n := binary.Uvarint(message)
		if n <= 0 {
			return 0, nil, errNoHealth
		}
		return value, message[n:], nil
	case 1:
		skip = 8
	case 2:
		length, n := binary.Uvarint(message)
		if n <= 0 {
			return 0, nil, errNoHealth
		}
		skip, message = length, message[n:]
	case 5:
		skip = 4
	default:
		return 0, nil, errNoHealth
	}
	if skip > uint64(len(message)) {
		return 0, nil, errNoHealth
	}
	return 0, message[skip:], nil
}
