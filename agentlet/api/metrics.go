package api

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

const metricEvicted = "agentlet_connections_evicted_total"

// Metrics declares what /metrics serves: the registrar's, and the server's own.
func Metrics() []contract.Metric {
	return append(agentlet.Metrics(), contract.NewMetric(metricEvicted, contract.Counter,
		"Connections to the agentlet's port that were closed in favour of newer ones; 0 unless flooded."))
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	samples := append(s.registrar.Samples(), contract.Sample{Name: metricEvicted, Value: float64(s.connections.Evicted())})
	_, _ = w.Write(text(samples)) // the client has gone
}

// text is Prometheus' text format, with the metrics in their declared order. A client library would cost each pod more memory
// than the whole rest of the registrar holds; a dozen metrics don't need one.
func text(samples []contract.Sample) []byte {
	out := &bytes.Buffer{}
	for _, metric := range Metrics() {
		own := slices.DeleteFunc(slices.Clone(samples), func(s contract.Sample) bool { return s.Name != metric.Name })
		if len(own) == 0 {
			continue
		}
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric.Name, metric.Help, metric.Name, metric.Type)
		for _, s := range own {
			var labels []string
			for i, l := range metric.Labels {
				labels = append(labels, fmt.Sprintf("%s=%q", l.Name, s.Labels[i]))
			}
			braced := ""
			if len(labels) > 0 {
				braced = "{" + strings.Join(labels, ",") + "}"
			}
			fmt.Fprintf(out, "%s%s%s %g\n", metric.Name, s.Suffix, braced, s.Value)
		}
	}
	return out.Bytes()
}
