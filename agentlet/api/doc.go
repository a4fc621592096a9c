// Package api is the agentlet's HTTP server: health, status, metrics, the drain hook, and the local API, by which the pod's own
// containers speak for themselves. It owns every path's status codes and bounds; what they mean is the registrar's.
package api
