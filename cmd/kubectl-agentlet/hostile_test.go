package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// forged is a text that would forge a row if it were printed unescaped.
const forged = "because\nok    gates       all is well\x1b[2J\u009b\u202e\u2028"

// hostileCluster is an API server whose pods contain only forged texts, and whose proxies return such answers.
func hostileCluster(t *testing.T, answer http.HandlerFunc) (kubeconfig string) {
	t.Helper()
	lists := map[string]any{
		"/version":           map[string]string{"gitVersion": "v1.37.0" + forged},
		"/api/v1/pods":       corev1.PodList{Items: forgedPods()},
		"/api/v1/nodes":      corev1.NodeList{Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}}},
		"/api/v1/namespaces": corev1.NamespaceList{Items: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, {ObjectMeta: metav1.ObjectMeta{Name: forged}}}},
		"/api/v1/events": corev1.EventList{Items: []corev1.Event{{
			Reason: "FailedPreStopHook", Message: forged, LastTimestamp: metav1.Now(),
			InvolvedObject: corev1.ObjectReference{Namespace: "shop", Name: forged},
		}}},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list, known := lists[r.URL.Path]
		switch {
		case strings.Contains(r.URL.Path, "/proxy/"):
			answer(w, r)
		case known:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(list)
		default: // configurations, policies, reviews
			http.Error(w, forged, http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}],
		"clusters": [{"name": "c", "cluster": {"server": %q}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// forgedPods returns a pod with a closed gate, one without a gate, and one whose agentlet does not run.
func forgedPods() []corev1.Pod {
	pods := make([]corev1.Pod, 3)
	for i := range pods {
		pods[i] = corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("web-%d", i), CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour))},
			Spec: corev1.PodSpec{
				NodeName:       "node1",
				InitContainers: []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{ContainerPort: 19500}}}},
				ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
				Type: contract.Condition, Status: corev1.ConditionFalse, Reason: "Reason" + forged, Message: forged,
			}}},
		}
	}
	pods[1].Spec.NodeName, pods[1].Spec.ReadinessGates = forged, nil
	pods[2].Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: contract.ContainerName, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff" + forged, Message: forged}},
	}}
	return pods
}

// TestHostileServers checks reports against hostile answers from pods, Consul and the API server: a report is in time, and each
// row is one line without control characters.
func TestHostileServers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"errors": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, forged, http.StatusBadGateway) },
		"status": func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{
				"consul": forged, "errors": forged, "maintenance": forged, "phase": forged, "failing": map[string]string{forged: forged},
				"gate": map[string]any{"reason": forged}, "services": []any{map[string]any{"name": forged, "address": forged, "agent": forged, "catalog": forged}},
			})
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			for written := 0; ; {
				n, err := w.Write(bytes.Repeat([]byte("[+] "), 1<<14))
				if err != nil {
					return
				}
				if written += n; written > 64<<20 {
					t.Error("an endless answer was read to its end")
					return
				}
			}
		},
		"silence":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"nonsense":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(strings.Repeat("[", 1<<19))) },
	} {
		t.Run(name, func(t *testing.T) {
			kubeconfig := hostileCluster(t, answer)
			consul := httptest.NewServer(answer)
			defer consul.Close()
			for _, args := range [][]string{{"status", "-A"}, {"check", "--consul-addr=" + consul.URL}} {
				args = append(args, "--kubeconfig="+kubeconfig, "--timeout=1s")
				began := time.Now()
				stdout, stderr, err := call(t, "", args...)
				if err != nil && !errors.Is(err, errSaid) {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("%s took %s", args[0], took)
				}
				lines := strings.Split(strings.TrimSuffix(stdout+stderr, "\n"), "\n")
				for _, line := range lines {
					if !harmless(line) || strings.HasPrefix(line, "ok    gates       all") {
						t.Errorf("%s prints %q", args[0], line)
					}
				}
				if len(stdout) > 100_000 || len(lines) < 4 {
					t.Errorf("%s prints %d lines of %d bytes", args[0], len(lines), len(stdout))
				}
				if rows := slices.Index(lines, ""); args[0] == "status" && rows != 4 {
					t.Errorf("%d lines for a header and three pods:\n%s", rows, stdout)
				}
			}
		})
	}
}

// harmless reports whether a terminal only shows a line, and does nothing else.
func harmless(line string) bool {
	return utf8.ValidString(line) && !strings.ContainsFunc(line, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

func TestJSONOfHostileServersIsTheirText(t *testing.T) {
	kubeconfig := hostileCluster(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, forged, http.StatusBadGateway) })
	stdout, _, err := call(t, "", "status", "-A", "-o", "json", "--kubeconfig="+kubeconfig)
	var report struct {
		Items []struct{ Pod, Reason string }
	}
	if err != nil || json.Unmarshal([]byte(stdout), &report) != nil || len(report.Items) != 3 || report.Items[0].Reason != "Reason"+forged {
		t.Errorf("%v, %s", err, stdout)
	}
	if strings.ContainsAny(stdout, "\x1b\u009b\u202e\u2028") {
		t.Errorf("%q", stdout)
	}
}

func TestCompletionOfNamespacesIsOfNames(t *testing.T) {
	kubeconfig := hostileCluster(t, http.NotFound)
	out, _, err := call(t, "", "__complete", "check", "--kubeconfig="+kubeconfig, "-n", "")
	if err != nil || !strings.HasPrefix(out, "shop\n:") {
		t.Errorf("%q, %v", out, err)
	}
}
