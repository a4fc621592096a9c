package registration

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// OptedOut reports whether the pod itself says no, by label or by annotation.
func OptedOut(pod *corev1.Pod) bool {
	return contract.OptsOut(pod.Labels[contract.InjectLabel]) || contract.OptsOut(pod.Annotations[contract.InjectLabel])
}

// anyName ends a name that the API server makes: it appends characters by chance to generateName.
const anyName = "*"

// InjectedFor is what an injector writes down of the pod that gets an agentlet; empty where neither its name nor what it is
// generated from is known, as of a template. Of all that is known at admission only the name tells a copy from the pod that
// was meant: a controller adopts pods and gives them up while they run, and copies keep everything else. A pod that is
// restored into another namespace keeps its name, and is meant.
func InjectedFor(pod *corev1.Pod) string {
	if pod.Name == "" && pod.GenerateName != "" {
		return pod.GenerateName + anyName
	}
	return pod.Name
}

// CopyOf returns the name of the pod for which the agentlet of this one was injected, if that was another pod. It is empty for
// the pod that was meant, and where nothing was written down.
func CopyOf(pod *corev1.Pod) (original string) {
	agentlet := Agentlet(pod)
	if agentlet == nil {
		return ""
	}
	original, _ = Environment(agentlet, contract.EnvInjectedFor)
	if original == "" || original == InjectedFor(pod) {
		return ""
	}
	if prefix, generated := strings.CutSuffix(original, anyName); generated && generatedFrom(prefix, pod.Name) {
		return ""
	}
	return original
}

// InjectionRecorded reports whether the injector has written down for which pod the agentlet is.
func InjectionRecorded(pod *corev1.Pod) bool {
	agentlet := Agentlet(pod)
	if agentlet == nil {
		return false
	}
	original, _ := Environment(agentlet, contract.EnvInjectedFor)
	return original != ""
}

// The API server's generated names: generateName is cut to maxGenerated, and generatedLength characters of generatedFrom follow.
const (
	maxGenerated    = 58
	generatedLength = 5
	generatedOf     = "bcdfghjklmnpqrstvwxz2456789"
)

// generatedFrom reports whether the API server may have made the name from the prefix. More characters than it appends today are
// taken for its own, too.
func generatedFrom(prefix, name string) bool {
	chance, found := strings.CutPrefix(name, prefix[:min(len(prefix), maxGenerated)])
	return found && len(chance) >= generatedLength && strings.Trim(chance, generatedOf) == ""
}

// Environment is the value of a variable that a container's specification gives literally.
func Environment(c *corev1.Container, name string) (value string, ok bool) {
	for i := range c.Env {
		if e := &c.Env[i]; e.Name == name && e.ValueFrom == nil {
			return e.Value, true
		}
	}
	return "", false
}
