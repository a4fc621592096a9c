package explain

import (
	"maps"
	"slices"

	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/cli/sarif"
)

// Report is what explain says, for programs.
type Report struct {
	printer.Type
	// Result is error if there is any, else warning if there is any, else ok.
	Result   string    `json:"result"`
	Pods     []Pod     `json:"pods"`
	Findings []Finding `json:"findings"`
}

// Pod is a pod, or an object with the template of pods.
type Pod struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name,omitempty"`
	File       string `json:"file"`
	Line       int    `json:"line"`
	// Outcome is injected, skipped or denied, whatever the namespace's label says.
	Outcome injector.Outcome `json:"outcome"`
	// Reason of a pod that is skipped or denied.
	Reason   injector.Reason `json:"reason,omitempty"`
	Services []Service       `json:"services,omitempty"`
}

// Service is what would be registered.
type Service struct {
	Name string `json:"name"`
	// Port is 0 for a service without one.
	Port int `json:"port"`
	// Address may be a placeholder for the pod's or the node's, which only a running pod has.
	Address string            `json:"address"`
	Tags    []string          `json:"tags,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
}

// Finding is an error or a warning.
type Finding struct {
	Level   sarif.Level `json:"level"`
	File    string      `json:"file"`
	Line    int         `json:"line"`
	Object  string      `json:"object,omitempty"`
	Message string      `json:"message"`
}

// NewReport returns a report without pods and findings.
func NewReport() *Report {
	return &Report{Type: printer.NewType("Explanation"), Result: "ok", Pods: []Pod{}, Findings: []Finding{}}
}

// Find adds findings of a level.
func (r *Report) Find(level sarif.Level, found []manifests.Diagnostic) {
	for _, d := range found {
		r.Findings = append(r.Findings, Finding{level, d.File, d.Line, d.Object, d.Message})
		if r.Result != string(sarif.Error) {
			r.Result = string(level)
		}
	}
}

// Has reports whether there are findings of a level.
func (r *Report) Has(level sarif.Level) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Level == level })
}

// Add adds the result for one pod of the file with this name, with its errors and warnings.
func (r *Report) Add(file string, j *manifests.Result) error {
	r.Find(sarif.Error, j.Errors)
	r.Find(sarif.Warning, j.Warnings)
	of := &j.Object
	pod := Pod{
		APIVersion: of.APIVersion, Kind: of.Kind, Namespace: of.Namespace, Name: of.Name, File: file, Line: of.Line,
		Outcome: j.Outcome, Reason: j.Reason,
	}
	_, reg, err := registered(j)
	if err != nil {
		return err
	}
	if reg != nil {
		for _, s := range instances(reg) {
			pod.Services = append(pod.Services, Service{
				Name: s.Name, Port: s.Port, Address: address(s), Tags: s.Tags, Meta: maps.Clone(s.Meta),
			})
		}
	}
	r.Pods = append(r.Pods, pod)
	return nil
}

// WriteFindings prints the findings alone, one a line.
func (r *Report) WriteFindings(out *printer.Printer) {
	for _, f := range r.Findings {
		level := printer.Cell{Text: string(f.Level), Colour: printer.Red}
		if f.Level == sarif.Warning {
			level.Colour = printer.Yellow
		}
		note := manifests.Diagnostic{File: f.File, Line: f.Line, Object: f.Object, Message: f.Message}
		out.Line(level, printer.Text(": "+note.String()))
	}
}

// SARIF returns the findings as a log. rendered is the file to which all belong if kustomize made the manifests, whose lines are
// those of no file.
func (r *Report) SARIF(program, version, rendered string) sarif.Log {
	findings := make([]sarif.Finding, len(r.Findings))
	for i, f := range r.Findings {
		findings[i] = sarif.Finding(f)
		if rendered != "" {
			findings[i].File, findings[i].Line = rendered, 0
		}
	}
	return sarif.New(program, version, findings)
}
