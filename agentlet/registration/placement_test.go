package registration

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestPlacement: a pod that may end by itself, and one with a mesh proxy, have a native sidecar, whatever the installation's
// default is, and may not ask for a container.
func TestPlacement(t *testing.T) {
	const meshed = "- {name: web, port: 8080, connect: {sidecar_service: {}}}"
	for name, test := range map[string]struct {
		annotation, def string
		namespace       string // its default
		gate            string
		localAPI        bool
		own             corev1.ContainerRestartPolicy // of the container
		policy          corev1.RestartPolicy
		services        string
		want            contract.PlacementMode
		says            string // of the error; empty: there is none
	}{
		"nothing said":                        {want: contract.PlacementContainer},
		"Always":                              {policy: corev1.RestartPolicyAlways, want: contract.PlacementContainer},
		"OnFailure":                           {policy: corev1.RestartPolicyOnFailure, want: contract.PlacementSidecar},
		"Never":                               {policy: corev1.RestartPolicyNever, want: contract.PlacementSidecar},
		"Never, the installation's container": {policy: corev1.RestartPolicyNever, def: "container", want: contract.PlacementSidecar},
		"Never, the namespace's container":    {policy: corev1.RestartPolicyNever, namespace: "container", want: contract.PlacementSidecar},
		"the namespace's sidecar":             {namespace: "sidecar", def: "container", want: contract.PlacementSidecar},
		"Never, the pod's sidecar":            {policy: corev1.RestartPolicyNever, annotation: "sidecar", want: contract.PlacementSidecar},
		"Never, the pod's container":          {policy: corev1.RestartPolicyNever, annotation: "container", says: "restartPolicy Never"},
		"the local API":                       {localAPI: true, want: contract.PlacementSidecar},
		"containers that may end":             {own: corev1.ContainerRestartPolicyNever, want: contract.PlacementSidecar},
		"containers that may end, container":  {own: corev1.ContainerRestartPolicyOnFailure, annotation: "container", says: "restart policies"},
		"containers that are restarted":       {own: corev1.ContainerRestartPolicyAlways, want: contract.PlacementContainer},
		"gate registered":                     {gate: "registered", want: contract.PlacementSidecar},
		"gate registered, a container":        {gate: "registered", annotation: "container", want: contract.PlacementContainer},
		"a mesh proxy":                        {services: meshed, want: contract.PlacementSidecar},
		"a mesh proxy, a container":           {services: meshed, annotation: "container", says: "mesh proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotations{"services": "- {name: web, port: 8080}"})
			if test.services != "" {
				pod.Annotations[contract.Services] = test.services
			}
			if test.annotation != "" {
				pod.Annotations[contract.Placement] = test.annotation
			}
			if test.localAPI {
				pod.Annotations[contract.LocalAPI] = string(contract.LocalAPIEnabled)
			}
			if test.own != "" {
				pod.Spec.Containers[0].RestartPolicy = &test.own
			}
			if test.gate != "" {
				pod.Annotations[contract.Gate] = test.gate
			}
			defaults := Defaults{}
			if test.def != "" {
				defaults["placement"] = test.def
			}
			if test.namespace != "" {
				defaults[contract.Placement] = test.namespace
			}
			pod.Spec.RestartPolicy = test.policy
			reg, errs := Parse(pod, defaults)
			switch {
			case test.says != "":
				if len(errs) != 1 || !strings.Contains(errs[0].Error(), test.says) || errs[0].Field != "metadata.annotations[agentlet.dev/placement]" {
					t.Errorf("%v, want one error that says %q", errs, test.says)
				}
			case len(errs) > 0:
				t.Error(errs.ToAggregate())
			case reg.Settings.Placement != test.want:
				t.Errorf("%s, want %s", reg.Settings.Placement, test.want)
			}
		})
	}
}

func TestAgentlet(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	named := corev1.Container{Name: contract.ContainerName}
	sidecar := corev1.Container{Name: contract.ContainerName, RestartPolicy: &always}
	for name, test := range map[string]struct {
		pod  corev1.PodSpec
		want bool
	}{
		"none":                   {corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}, false},
		"a container":            {corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}, named}}, true},
		"a native sidecar":       {corev1.PodSpec{InitContainers: []corev1.Container{{Name: "first"}, sidecar}}, true},
		"an init container":      {corev1.PodSpec{InitContainers: []corev1.Container{named}}, false},
		"another native sidecar": {corev1.PodSpec{InitContainers: []corev1.Container{{Name: "proxy", RestartPolicy: &always}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Agentlet(&corev1.Pod{Spec: test.pod}); (got != nil) != test.want {
				t.Errorf("%v, want one: %v", got, test.want)
			}
		})
	}
}
