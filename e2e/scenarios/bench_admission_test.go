package scenarios_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// admissionRepeats is the -count of each Go benchmark.
const admissionRepeats = "5"

// admissionFigure maps a unit of a Go benchmark of package webhook to a figure.
type admissionFigure struct {
	benchmark, unit string
	name            string
	scale           float64
}

var admissionFigures = []admissionFigure{
	{"Admission/handler", "sec/op", "admission_us", 1e6},
	{"Admission/handler", "B/op", "admission_kb", 1e-3},
	{"Admission/over-json", "x", "admission_over_json", 1},
	{"AdmissionTLS", "p99-ms", "admission_p99_ms", 1},
	{"AdmissionTLS", "req/s", "admission_rps", 1},
}

func TestBenchAdmission(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	var out []byte
	s.When("the webhook's benchmarks run", func() {
		command := exec.CommandContext(s.Ctx, "go", "test", "-run=^$", "-bench=^BenchmarkAdmission", "-benchmem", "-count="+admissionRepeats, "./webhook")
		command.Dir = s.Root
		var err error
		if out, err = command.CombinedOutput(); err != nil {
			s.Fatalf("go test: %v\n%s", err, out)
		}
		s.Logf("%s", out)
	})
	s.Then("their medians are known", func() {
		values := map[string][]float64{}
		reader := benchfmt.NewReader(bytes.NewReader(out), "webhook")
		for reader.Scan() {
			result, ok := reader.Result().(*benchfmt.Result)
			if !ok {
				continue
			}
			for _, figure := range admissionFigures {
				value, there := result.Value(figure.unit)
				if there && strings.HasPrefix(result.Name.String(), figure.benchmark) {
					values[figure.name] = append(values[figure.name], value*figure.scale)
				}
			}
		}
		s.Must(reader.Err())
		for name, samples := range values {
			record(s, name, observe.Quantile(samples, 0.5), len(samples))
		}
	})
}
