// Package explain describes in words what manifests would register in Consul, and how their pods would start and end.
package explain

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Write explains the result for one pod of the file with this name, including errors and warnings.
func Write(out *printer.Printer, file string, j *manifests.Result) error {
	out.Line(printer.Cell{Text: j.String(), Colour: printer.Bold}, printer.Text(fmt.Sprintf("  %s:%d", file, j.Line)))
	out.Line(printer.Text("  "), outcome(j))
	notes(out, j)
	pod, reg, err := registered(j)
	if reg == nil {
		return err
	}
	out.Line()
	out.Table("  ", services(reg))
	out.Line()
	out.Table("  ", slices.Concat(
		byDefault(reg), live(pod, j.Defaults), mesh(reg), bypasses(j.Bypasses), settings(pod, &reg.Settings, j.Bypasses),
		defaults(pod, j.Defaults),
	))
	return nil
}

// registered returns what would be registered of a pod, by an agentlet that it gets or has already, and the pod with the
// annotations by which that is. Both are nil for a pod that would not be registered.
func registered(j *manifests.Result) (*corev1.Pod, *registration.Registration, error) {
	if j.Outcome != injector.Injected && (j.Reason != injector.ReasonAlreadyInjected || j.CopyOf != "") {
		return nil, nil, nil
	}
	pod := translated(j)
	reg, errs := registration.Parse(pod, j.Defaults)
	if len(errs) > 0 {
		return nil, nil, fmt.Errorf("explain %s: %w", j.String(), errs.ToAggregate())
	}
	return pod, reg, nil
}

// translated returns the pod with another system's annotations translated to Agentlet's.
func translated(j *manifests.Result) *corev1.Pod {
	if len(j.Translated) == 0 {
		return j.Pod.Pod
	}
	pod := *j.Pod.Pod
	pod.Annotations = maps.Clone(pod.Annotations)
	maps.Copy(pod.Annotations, j.Translated)
	return &pod
}

func outcome(j *manifests.Result) printer.Cell {
	if j.Outcome == injector.Denied {
		return printer.Cell{Text: "would be refused: " + printer.Count(len(j.Errors), "error"), Colour: printer.Red}
	}
	if j.Outcome == injector.Injected {
		return inNamespace(j.Namespace)
	}
	if j.CopyOf != "" {
		text := "would be left alone: it is a copy of " + j.CopyOf + ", with that one's agentlet"
		return printer.Cell{Text: text, Colour: printer.Yellow}
	}
	why := map[injector.Reason]string{
		injector.ReasonNotAnnotated:    "would be left alone: it has neither " + contract.ServiceNames + " nor " + contract.Services,
		injector.ReasonOptedOut:        "would be left alone: it opts out" + optOut(j.Pod.Pod),
		injector.ReasonMeshed:          "would be left alone: consul-k8s' mesh registers it",
		injector.ReasonUnsupportedOS:   "would be left alone: it is for Windows nodes",
		injector.ReasonMirrorPod:       "would be left alone: it is a static pod, which its node's kubelet runs from a file",
		injector.ReasonAlreadyInjected: "has its agentlet already, and would be registered",
	}
	return printer.Cell{Text: why[j.Reason], Colour: printer.Yellow}
}

// inNamespace describes how the namespace, which may be unknown, affects the injection.
func inNamespace(namespace *manifests.Namespace) printer.Cell {
	label := contract.InjectLabel + "=" + contract.InjectEnabled
	if namespace == nil {
		return printer.Cell{Text: "would be registered, in a namespace with the label " + label, Colour: printer.Green}
	}
	place := fmt.Sprintf("%s (%s:%d)", namespace.Object, namespace.File, namespace.Line)
	switch value, there := namespace.Label(contract.InjectLabel); {
	case !there && namespace.Annotated(contract.InjectLabel):
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has %s as an annotation, and needs the label %s",
			place, contract.InjectLabel, label), Colour: printer.Yellow}
	case !there:
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has no label %s", place, label), Colour: printer.Yellow}
	case value != contract.InjectEnabled:
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has the label %s=%s, which must be %s",
			place, contract.InjectLabel, value, contract.InjectEnabled), Colour: printer.Yellow}
	}
	return printer.Cell{Text: fmt.Sprintf("would be registered: %s has the label %s", place, label), Colour: printer.Green}
}

// optOut returns how a pod opts out with Agentlet's label or annotation, or "".
func optOut(pod *corev1.Pod) string {
	for _, values := range []map[string]string{pod.Labels, pod.Annotations} {
		if value := values[contract.InjectLabel]; contract.OptsOut(value) {
			return fmt.Sprintf(" by %s: %q", contract.InjectLabel, value)
		}
	}
	return ""
}

func notes(out *printer.Printer, j *manifests.Result) {
	for _, kind := range []struct {
		label string
		notes []manifests.Diagnostic
		as    printer.Colour
	}{{"error", j.Errors, printer.Red}, {"warning", j.Warnings, printer.Yellow}} {
		for _, note := range kind.notes {
			out.Line(printer.Text("  "), printer.Cell{Text: kind.label, Colour: kind.as},
				printer.Text(fmt.Sprintf(" %s:%d: %s", note.File, note.Line, note.Message)))
		}
	}
}
