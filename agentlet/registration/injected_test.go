package registration

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestCopyOf(t *testing.T) {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	generated := func(prefix, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, GenerateName: prefix}
	}
	long := strings.Repeat("a", 70)
	for name, c := range map[string]struct {
		injected, now metav1.ObjectMeta
		copied        bool
	}{
		"a name":                             {named("web-0"), named("web-0"), false},
		"another name":                       {named("web-0"), named("web-0-debug"), true},
		"a name beside what generates one":   {generated("web-", "web-0"), generated("web-", "web-0"), false},
		"judged again before it has a name":  {generated("web-5d-", ""), generated("web-5d-", ""), false},
		"a generated name":                   {generated("web-5d-", ""), generated("web-5d-", "web-5d-x2k9q"), false},
		"a generated name of a later server": {generated("web-5d-", ""), generated("web-5d-", "web-5d-x2k9qbbb"), false},
		"a long generated name":              {generated(long, ""), generated(long, long[:58]+"x2k9q"), false},
		"a copy named after it":              {generated("web-5d-", ""), named("web-5d-x2k9q-debug"), true},
		"a copy named after its template":    {generated("web-5d-", ""), named("web-5d-debug"), true},
		"a copy with a short name":           {generated("web-5d-", ""), named("web-5d-dbg"), true},
		"a copy that kept what generates":    {generated("web-5d-", ""), generated("web-5d-", "web-copy"), true},
		"a template":                         {named(""), named("web-0"), false},
	} {
		t.Run(name, func(t *testing.T) {
			original := InjectedFor(&corev1.Pod{ObjectMeta: c.injected})
			pod := &corev1.Pod{ObjectMeta: c.now, Spec: corev1.PodSpec{Containers: []corev1.Container{
				{Name: "web"}, {Name: contract.ContainerName, Env: []corev1.EnvVar{{Name: contract.EnvInjectedFor, Value: original}}},
			}}}
			if got := CopyOf(pod); (got != "") != c.copied || c.copied && got != original {
				t.Errorf("a copy of %q, want %q: %t", got, original, c.copied)
			}
			pod.Spec.Containers[1].Env = nil
			if got := CopyOf(pod); got != "" {
				t.Errorf("a copy of %q where nothing is written down", got)
			}
		})
	}
}
