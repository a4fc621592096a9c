package manifests

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// stream is so many Deployments that ask for an agentlet.
func stream(documents int) []byte {
	var text strings.Builder
	for i := range documents {
		fmt.Fprintf(&text, `---
# Service %[1]d.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%[1]d
  labels: {app: web-%[1]d}
spec:
  replicas: 3
  selector:
    matchLabels: {app: web-%[1]d}
  template:
    metadata:
      labels: {app: web-%[1]d}
      annotations:
        agentlet.dev/service-names: web-%[1]d
        agentlet.dev/service-tags: v1,blue
        agentlet.dev/drain-timout: 5s # a warning
    spec:
      containers:
      - name: web # the application
        image: registry.example/web:%[1]d
        ports:
        - name: http
          containerPort: 8080
        env:
        - {name: LEVEL, value: info}
        resources:
          requests: {cpu: 100m, memory: 64Mi}
`, i)
	}
	return []byte(text.String())
}

// BenchmarkInject is one pass of kubectl agentlet inject over a stream, by its number of documents.
func BenchmarkInject(b *testing.B) {
	decider := testDecider(b)
	for _, documents := range []int{250, 1000, 4000} {
		text := stream(documents)
		b.Run(fmt.Sprint(documents), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				file, diagnostics := Parse("stream.yaml", text)
				out, _, err := file.Injected(file.Judge(decider, "shop", nil))
				if err != nil || len(diagnostics) > 0 || len(out) < len(text) {
					b.Fatal(err, diagnostics)
				}
			}
		})
	}
}

// TestWorkGrowsWithTheStreamAlone counts bytes that are allocated, which don't depend on the machine's load: four times the
// documents take four times the work, and what stands before a document in its file takes none.
func TestWorkGrowsWithTheStreamAlone(t *testing.T) {
	decider := testDecider(t)
	work := func(text []byte) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, diagnostics := Parse("stream.yaml", text)
		if _, _, err := file.Injected(file.Judge(decider, "shop", nil)); err != nil || len(diagnostics) > 0 {
			t.Fatal(err, diagnostics)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	work(stream(1)) // what is made once
	small, big := work(stream(50)), work(stream(200))
	if ratio := float64(big) / float64(small); ratio > 4.5 {
		t.Errorf("4 times the documents take %.1f times the work: %d and %d bytes", ratio, small, big)
	}
	comment := bytes.Repeat([]byte("#\n"), 1_000_000)
	alone, behind := work(comment), work(append(comment, stream(50)...))
	if more := float64(behind-alone) / float64(small); more > 1.5 {
		t.Errorf("behind 1,000,000 lines the same documents take %.1f times the work: %d bytes instead of %d", more, behind-alone, small)
	}
}
