package scenarios_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// ownGate is a patch that opens a gate.
const ownGate = `{"status":{"conditions":[{"type":"` + contract.Condition + `","status":"True"}]}}`

// attack is a patch that the user has no right to make.
type attack struct {
	client      kubernetes.Interface
	pod         string
	subresource string
	body        string // a JSON patch if it begins with [, or else a strategic merge patch
}

func (a attack) try(s *scenario.S) error {
	kind := types.StrategicMergePatchType
	if strings.HasPrefix(a.body, "[") {
		kind = types.JSONPatchType
	}
	_, err := a.client.CoreV1().Pods(s.Namespace).Patch(s.Ctx, a.pod, kind, []byte(a.body), metav1.PatchOptions{}, a.subresource)
	return err
}

// refused reports whether the API server rejected a request for lack of rights: by RBAC, by an admission policy, or because the
// token is no longer valid.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || refusedBy(gatePolicy, err) || refusedBy(eventsPolicy, err)
}

// refusedBy reports whether this policy rejected the request.
func refusedBy(policy string, err error) bool {
	return err != nil && strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+policy+"'") && strings.Contains(err.Error(), "denied request")
}

// TestTrustAttacks uses a pod's token for requests that are none of an agentlet's.
func TestTrustAttacks(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var held kubernetes.Interface
	s.Given("two unready pods on two nodes, and the token of one of them", func() {
		serviceAccount(s, "web")
		for name, node := range map[string]string{"own": "node1", "other": "node2"} {
			createUnready(s, name, node)
		}
		awaitAccounts(s, "web")
		held = withToken(s, tokenInside(s, "own"))
	})
	s.Then("a write of the pod's own gate is accepted", func() {
		s.Eventually("the grant to be in force", func(context.Context) (bool, error) {
			err := attack{held, "own", "status", ownGate}.try(s)
			return err == nil, err
		})
	})
	before := s.Pod("own")
	attacks := fieldAttacks(held)
	maps.Copy(attacks, tokenAttacks(s, held))
	s.Then("every other write is rejected", func() {
		for name, a := range attacks {
			if err := a.try(s); !refused(err) {
				s.Errorf("%s: %v, want a refusal", name, err)
			}
		}
	})
	s.Then("the API server ignores ownerReferences in a status update", func() {
		owner := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"other","uid":%q}]}}`, s.Pod("other").UID)
		if err := (attack{held, "own", "status", owner}).try(s); err != nil && !refused(err) {
			s.Error(err)
		}
	})
	s.Then("the pod is unchanged", func() {
		now := s.Pod("own")
		if len(now.Labels) != len(before.Labels) || len(now.Annotations) != len(before.Annotations) || len(now.OwnerReferences)+len(now.Finalizers) > 0 {
			s.Errorf("changed: %+v", now.ObjectMeta)
		}
		if now.Status.Phase != before.Status.Phase || now.Status.PodIP != before.Status.PodIP || scenario.IsReady(now) {
			s.Errorf("changed: %+v", now.Status)
		}
		if gate := scenario.Condition(s.Pod("other"), contract.Condition); gate.Status == corev1.ConditionTrue {
			s.Error("the other pod's gate was opened")
		}
	})
}

// createUnready creates an injected pod on a node and waits until its containers run; they don't become ready.
func createUnready(s *scenario.S, name, node string) *corev1.Pod {
	s.Helper()
	template := under("web", s.Sample(s.Annotations()))
	template.Spec.NodeName = node
	template.Spec.Containers[0].ReadinessProbe.HTTPGet.Path = "/never"
	_, err := s.CreatePod(name, template)
	s.Must(err)
	var pod *corev1.Pod
	s.Eventually(name+" to run", func(context.Context) (bool, error) {
		pod = s.Pod(name)
		return pod.Status.Phase == corev1.PodRunning, fmt.Errorf("it is %s", pod.Status.Phase)
	})
	return pod
}

// tokenInside returns the token in the agentlet's container of a pod.
func tokenInside(s *scenario.S, name string) string {
	s.Helper()
	token, err := scenario.ReadFile("agentlet run", string(s.Pod(name).UID), contract.IdentityPath+"/token")
	s.Must(err)
	return string(token)
}

// fieldAttacks are changes of own's pod and of other pods, with own's token.
func fieldAttacks(own kubernetes.Interface) map[string]attack {
	attacks := map[string]attack{
		"another pod's gate, on another node": {own, "other", "status", ownGate},
		"the other gate's removal":            {own, "other", "status", `{"status":{"conditions":[{"$patch":"delete","type":"` + contract.Condition + `"}]}}`},
	}
	for name, body := range map[string]string{
		"own labels":               `{"metadata":{"labels":{"role":"primary"}}}`,
		"own annotations":          `{"metadata":{"annotations":{"a":"b"}}}`,
		"own finalizers":           `{"metadata":{"finalizers":["agentlet.dev/stay"]}}`,
		"own podIP":                `{"status":{"podIP":"10.9.9.9","podIPs":[{"$patch":"replace"},{"ip":"10.9.9.9"}]}}`,
		"own hostIP":               `{"status":{"hostIP":"10.9.9.9","hostIPs":[{"$patch":"replace"},{"ip":"10.9.9.9"}]}}`,
		"own phase":                `{"status":{"phase":"Succeeded"}}`,
		"own message":              `{"status":{"message":"all is well"}}`,
		"own Ready condition":      `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`,
		"another system's gate":    `{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`,
		"the removal of a status":  `[{"op":"remove","path":"/status/startTime"}]`,
		"the agentlet's restarts":  `[{"op":"replace","path":"/status/containerStatuses/0/restartCount","value":9}]`,
		"the application's health": `[{"op":"replace","path":"/status/containerStatuses/1/ready","value":true}]`, // statuses are sorted by name
	} {
		attacks[name] = attack{own, "own", "status", body}
	}
	maps.Copy(attacks, map[string]attack{
		"the pod itself":      {own, "own", "", `{"metadata":{"labels":{"a":"b"}}}`},
		"resize":              {own, "own", "resize", `{"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"2"}}}]}}`},
		"ephemeralcontainers": {own, "own", "ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"debug","image":"debug"}]}}`},
	})
	return attacks
}

// tokenAttacks open own's gate with tokens other than its own.
func tokenAttacks(s *scenario.S, own kubernetes.Interface) map[string]attack {
	s.Helper()
	secret, err := s.Kube.CoreV1().Secrets(s.Namespace).Create(s.Ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "any"}}, metav1.CreateOptions{})
	s.Must(err)
	_, err = s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "rolebinding", "by-hand", "--clusterrole="+grantRole, "--serviceaccount=default:default")
	s.Must(err)
	bound := func(kind, name string, uid types.UID) kubernetes.Interface {
		return withToken(s, tokenOf(s, s.Namespace, "web", &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}))
	}
	attacks := map[string]attack{
		"a token of no pod":                          {withToken(s, tokenOf(s, s.Namespace, "web", nil)), "own", "status", ownGate},
		"a token of a Secret":                        {bound("Secret", secret.Name, secret.UID), "own", "status", ownGate},
		"the other pod's token":                      {withToken(s, tokenInside(s, "other")), "own", "status", ownGate},
		"the default account's token":                {withToken(s, tokenOf(s, s.Namespace, "default", nil)), "own", "status", ownGate},
		"another namespace's account, bound by hand": {withToken(s, tokenOf(s, "default", "default", nil)), "own", "status", ownGate},
		"nobody's token":                             {withToken(s, ""), "own", "status", ownGate},
	}
	if s.Cluster.Options.Kubernetes == toolchain.Kubernetes { // 1.30 can't bind tokens to nodes
		node, err := s.Kube.CoreV1().Nodes().Get(s.Ctx, "node1", metav1.GetOptions{})
		s.Must(err)
		attacks["a token of the node"] = attack{bound("Node", node.Name, node.UID), "own", "status", ownGate}
	}
	// A StatefulSet's pod and its successor have the same name. Copy the first one's token before it is deleted.
	first := createUnready(s, "web-0", "node1")
	old := withToken(s, tokenInside(s, "web-0"))
	none := int64(0)
	s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, first.Name, metav1.DeleteOptions{GracePeriodSeconds: &none}))
	s.AwaitGone(first)
	createUnready(s, "web-0", "node1")
	attacks["the gate of a successor of the same name"] = attack{old, "web-0", "status", ownGate}
	attacks["own, with the token of a pod that has gone"] = attack{old, "own", "status", ownGate}
	return attacks
}

// TestTrustOthersAreLeftAlone checks that the policy doesn't restrict those who write statuses by other rights than the
// agentlet's role.
func TestTrustOthersAreLeftAlone(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Given("a service account with another right to patch pods/status, and a pod", func() {
		serviceAccount(s, "operator")
		for _, args := range [][]string{
			{"create", "role", "theirs", "--verb=patch", "--resource=pods/status"},
			{"create", "rolebinding", "theirs", "--role=theirs", "--serviceaccount=" + s.Namespace + ":operator"},
		} {
			_, err := s.Kubectl(s.Ctx, append([]string{"-n", s.Namespace}, args...)...)
			s.Must(err)
		}
		_, err := s.CreatePod("any", held(s))
		s.Must(err)
	})
	operator := withToken(s, tokenOf(s, s.Namespace, "operator", nil))
	condition := attack{operator, "any", "status", `{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`}
	s.Then("it may write its own condition type into any pod", func() {
		s.Eventually("the role to be in force", func(context.Context) (bool, error) { err := condition.try(s); return err == nil, err })
	})
	s.When("it is also bound to the agentlet's role", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "rolebinding", "ours", "--clusterrole="+grantRole, "--serviceaccount="+s.Namespace+":operator")
		s.Must(err)
	})
	s.Then("it may not any more", func() {
		s.Eventually("the policy to hold", func(context.Context) (bool, error) { err := condition.try(s); return refused(err), err })
	})
}
