package registration

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// named has a pod that runs.
func named(pod *corev1.Pod) *corev1.Pod {
	pod.Name, pod.Namespace, pod.Spec.NodeName = "web-0", "shop", "node1"
	return pod
}

func TestPlaceholders(t *testing.T) {
	all := "${POD_NAME}.${POD_NAMESPACE}.${NODE_NAME}"
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		tags []string
		meta string
	}{
		"flat":         {named(newPod(annotations{"service-names": "web", "service-tags": "a," + all, "service-meta": "at:" + all})), []string{"a", "web-0.shop.node1"}, "web-0.shop.node1"},
		"structured":   {named(newPod(annotations{"services": "[{name: web, tags: [a, '" + all + "'], meta: {at: '" + all + "'}}]"})), []string{"a", "web-0.shop.node1"}, "web-0.shop.node1"},
		"at admission": {newPod(annotations{"service-names": "web", "service-tags": all, "service-meta": "at:" + all}), []string{all}, all},
		"duplicates":   {named(newPod(annotations{"service-names": "web", "service-tags": "web-0,${POD_NAME}", "service-meta": "at:1"})), []string{"web-0"}, "1"},
		"others' keys": {named(newPod(annotations{"service-names": "web", "service-tags": "$ {POD_NAME},${1}x", "service-meta": "at:100$"})), []string{"$ {POD_NAME}", "${1}x"}, "100$"},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, c.pod, nil)
			wantWarnings(t, warnings)
			if s := reg.Services[0]; !slices.Equal(s.Tags, c.tags) || s.Meta["at"] != c.meta {
				t.Errorf("tags %q, meta %q, want %q, %q", s.Tags, s.Meta["at"], c.tags, c.meta)
			}
		})
	}
	for _, short := range []annotations{
		{"service-names": "web", "service-meta": "at:" + strings.Repeat("x", 490) + "${POD_NAME}"},
		{"services": "[{name: web, meta: {at: '" + strings.Repeat("x", 490) + "${POD_NAME}'}}]"},
	} {
		long := named(newPod(short))
		long.Name = strings.Repeat("n", 60)
		wantErrors(t, long, "has 550 characters, Consul takes 512")
	}
}

func TestWarningOfWhatNothingReplaces(t *testing.T) {
	for name, c := range map[string]struct{ tag, says string }{
		"another name":       {"x-${POD_UID}", `tag "x-${POD_UID}": nothing replaces ${POD_UID}; there are ${POD_NAME}, ${POD_NAMESPACE}, ${NODE_NAME}`},
		"an address":         {"${POD_IP}", "nothing replaces ${POD_IP}"},
		"beside a known one": {"${POD_NAME}${HOST}", "nothing replaces ${HOST}"},
		"a template":         {"{{ .Release.Name }}", "nothing replaces {{"},
		"a shell's form":     {"pod-$POD_NAME", "nothing replaces $POD_NAME"},
		"the kubelet's form": {"$(NODE_NAME)", "nothing replaces $(NODE_NAME)"},
		"lower case":         {"${pod_name}", "nothing replaces ${pod_name}"},
		"a group":            {"replacement=https://${1}/$2", ""},
		"a price":            {"5$", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pod := range []*corev1.Pod{
				newPod(annotations{"service-names": "web,more", "service-tags": c.tag}),
				newPod(annotations{"service-names": "web,more", "service-meta": "at:" + c.tag}),
				newPod(annotations{"services": "[{name: web, tags: ['" + c.tag + "']}]"}),
				newPod(annotations{"services": "[{name: web, meta: {at: '" + c.tag + "'}}]"}),
			} {
				_, warnings := mustParse(t, pod, nil)
				if c.says == "" {
					wantWarnings(t, warnings)
				} else {
					wantWarnings(t, warnings, strings.TrimPrefix(c.says, "tag "))
				}
			}
		})
	}
}
