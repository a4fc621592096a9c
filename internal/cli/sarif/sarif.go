// Package sarif writes findings in manifests as SARIF 2.1.0, which code hosts show beside the lines of a change.
package sarif

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Finding is an error or a warning, with its place.
type Finding struct {
	Level Level
	// File is a path, or an address. It may be empty.
	File string
	// Line from 1, or 0 where there is none.
	Line int
	// Object is the Kubernetes object; it may be empty.
	Object  string
	Message string
}

// Level is the severity of a finding.
type Level string

// The levels.
const (
	Error   Level = "error"
	Warning Level = "warning"
)

// Log is a SARIF file.
type Log struct {
	Schema  string `json:"$schema"`
	Version string `json:"version"`
	Runs    []Run  `json:"runs"`
}

// Run is one run of the tool.
type Run struct {
	Tool    Tool     `json:"tool"`
	Results []Result `json:"results"`
}

// Tool is the program.
type Tool struct {
	Driver Driver `json:"driver"`
}

// Driver describes the program, and the rules by which it finds something.
type Driver struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Rules   []Rule `json:"rules"`
}

// Rule is a kind of findings.
type Rule struct {
	ID                   string        `json:"id"`
	ShortDescription     Message       `json:"shortDescription"`
	DefaultConfiguration Configuration `json:"defaultConfiguration"`
}

// Configuration of a rule.
type Configuration struct {
	Level Level `json:"level"`
}

// Message is a text.
type Message struct {
	Text string `json:"text"`
}

// Result is one finding.
type Result struct {
	RuleID    string     `json:"ruleId"`
	RuleIndex int        `json:"ruleIndex"`
	Level     Level      `json:"level"`
	Message   Message    `json:"message"`
	Locations []Location `json:"locations,omitempty"`
}

// Location is where a finding is.
type Location struct {
	PhysicalLocation *PhysicalLocation `json:"physicalLocation,omitempty"`
	LogicalLocations []LogicalLocation `json:"logicalLocations,omitempty"`
}

// PhysicalLocation is a place in a file.
type PhysicalLocation struct {
	ArtifactLocation ArtifactLocation `json:"artifactLocation"`
	Region           *Region          `json:"region,omitempty"`
}

// ArtifactLocation is a file.
type ArtifactLocation struct {
	URI string `json:"uri"`
}

// Region is a part of a file.
type Region struct {
	StartLine int `json:"startLine"`
}

// LogicalLocation is the Kubernetes object.
type LogicalLocation struct {
	FullyQualifiedName string `json:"fullyQualifiedName"`
	Kind               string `json:"kind"`
}

const schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// rules are one per severity: findings have no finer kinds that would stay the same.
var rules = []Rule{
	{"manifest-error", Message{"The webhook would refuse the pod, or kubectl the manifest"}, Configuration{Error}},
	{"manifest-warning", Message{"The manifest has an effect that is probably not meant, or none"}, Configuration{Warning}},
}

// New returns a log of one run of a program with these findings.
func New(program, version string, findings []Finding) Log {
	results := make([]Result, len(findings))
	for i, f := range findings {
		rule := slices.IndexFunc(rules, func(r Rule) bool { return r.DefaultConfiguration.Level == f.Level })
		results[i] = Result{RuleID: rules[rule].ID, RuleIndex: rule, Level: f.Level, Message: Message{f.Message}}
		var at Location
		if f.File != "" {
			at.PhysicalLocation = &PhysicalLocation{ArtifactLocation: ArtifactLocation{uri(f.File)}}
			if f.Line > 0 {
				at.PhysicalLocation.Region = &Region{f.Line}
			}
		}
		if f.Object != "" {
			at.LogicalLocations = []LogicalLocation{{f.Object, "resource"}}
		}
		if at.PhysicalLocation != nil || at.LogicalLocations != nil {
			results[i].Locations = []Location{at}
		}
	}
	return Log{schema, "2.1.0", []Run{{Tool{Driver{program, version, rules}}, results}}}
}

// uri of a file: relative to where the program ran, as code hosts expect it, if the path is relative.
func uri(file string) string {
	if strings.Contains(file, "://") {
		return file
	}
	at := url.URL{Path: filepath.ToSlash(filepath.Clean(file))}
	if filepath.IsAbs(file) {
		at.Scheme = "file"
	}
	return at.String()
}
