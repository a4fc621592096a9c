package apiproxy

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestEveryClosedGateHasARemedy(t *testing.T) {
	for _, reason := range contract.Reasons() {
		switch reason {
		case contract.Registered, contract.TimedOut, contract.Draining, contract.OptedOut: // open, or about to end
		default:
			if strings.Count(remedies[reason], "%s") != 2 {
				t.Errorf("%s: %q is no remedy that names the pod", reason, remedies[reason])
			}
		}
	}
}

func TestRemedyNamesThePod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0"}}
	for _, reason := range []contract.Reason{contract.AwaitingCatalog, contract.TimedOut, "Unheard"} {
		if got := Remedy(pod, reason); !strings.Contains(got, "kubectl -n shop logs web-0") {
			t.Errorf("%s: %q", reason, got)
		}
	}
}
