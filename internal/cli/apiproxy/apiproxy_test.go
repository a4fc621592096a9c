package apiproxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// cluster returns a Cluster whose API server answers by path.
func cluster(t *testing.T, answers map[string]func(w http.ResponseWriter)) Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := answers[r.URL.Path]; answer != nil {
			answer(w)
			return
		}
		t.Errorf("unexpected %s", r.URL.Path)
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	config.Wrap(BoundAPI)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return Cluster{Client: client}
}

func says(status int, body string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// endless answers until the client stops reading.
func endless(t *testing.T, status int) func(w http.ResponseWriter) {
	t.Helper()
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		for written := 0; written < 64*maxAnswer; {
			n, err := w.Write(make([]byte, 1<<16))
			if err != nil {
				return
			}
			written += n
		}
		t.Errorf("all of an endless answer with status %d was read", status)
	}
}

// redirect redirects to an address for which the test's server has no answer.
func redirect(w http.ResponseWriter) {
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(http.StatusTemporaryRedirect)
}

const forbidden = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"details":{"name":"https:node1:8501","kind":"nodes"},` +
	`"message":"nodes \"node1\" is forbidden: User \"a\" cannot get resource \"nodes/proxy\" in API group \"\""}`

const unavailable = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"ServiceUnavailable","code":503,` +
	`"message":"error trying to reach service: connection refused"}`

func TestNode(t *testing.T) {
	const path = "/api/v1/nodes/https:node1:8501/proxy/v1/agent/self"
	for name, test := range map[string]struct {
		answer    func(w http.ResponseWriter)
		want      string // of the body
		says      string // of the error
		forbidden bool
	}{
		"an answer":                {says(200, `{"Config":{}}`), `{"Config":{}}`, "", false},
		"not allowed":              {says(403, forbidden), "", "not allowed", true},
		"refused by what is there": {says(403, "Permission denied: anonymous token"), "", "Permission denied: anonymous token", false},
		"nobody there":             {says(503, unavailable), "", "port 8501: error trying to reach service: connection refused", false},
		"nobody there, in words":   {says(503, "dial tcp 10.0.0.1:8501:\nconnect: connection refused"), "", "the answer has status 503: dial tcp 10.0.0.1:8501: connect: connection refused", false},
		"no words":                 {says(503, ""), "", "currently unable to handle the request", false},
		"another API server's word": {
			says(403, strings.ReplaceAll(forbidden, `"kind":"nodes"`, `"kind":"secrets"`)), "", "is forbidden", false,
		},
	} {
		body, err := cluster(t, map[string]func(http.ResponseWriter){path: test.answer}).Node(t.Context(), "https", "node1", 8501, "v1/agent/self")
		if test.says == "" && (err != nil || string(body) != test.want) {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, ErrForbidden) != test.forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswerError checks that answers from behind the proxy are distinguished from the API server's own without parsing their
// text.
func TestAnswerError(t *testing.T) {
	const path = "/api/v1/namespaces/shop/pods/http:web:80/proxy/readyz"
	for name, test := range map[string]struct {
		status int
		body   string
		want   *AnswerError // nil for the API server's own
	}{
		"an answer":              {503, "[-] trust: no\n[+] certificate: ok\n", &AnswerError{503, "[-] trust: no\n[+] certificate: ok\n"}},
		"an answer in JSON":      {500, `{"a":1}`, &AnswerError{500, `{"a":1}`}},
		"words of the other":     {403, "cannot get pods/proxy", &AnswerError{403, "cannot get pods/proxy"}},
		"the API server's error": {503, unavailable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]func(http.ResponseWriter){path: says(test.status, test.body)}
			_, err := cluster(t, answers).Pod(t.Context(), "shop", "web", "80", "readyz")
			var got *AnswerError
			if errors.As(err, &got) != (test.want != nil) || got != nil && *got != *test.want {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.PodSpec{InitContainers: []corev1.Container{
			{Name: "other"}, {Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{ContainerPort: 19501}}},
		}},
	}
	const path = "/api/v1/namespaces/shop/pods/http:web:19501/proxy/status"
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
	}{
		"well":                  {says(200, `{"pod":"web"}`), ""},
		"starting":              {says(200, "null"), "has just started"},
		"no status":             {says(200, "<html>"), "decode status"},
		"no answer":             {says(503, "connection refused"), "connection refused"},
		"the most that is read": {says(200, `{"pod":"web"}`+strings.Repeat(" ", maxAnswer-13)), ""},
		"a byte more":           {says(200, `{"pod":"web"}`+strings.Repeat(" ", maxAnswer-12)), "the answer holds more than 1 MiB"},
		"an endless answer":     {endless(t, 200), "the answer holds more than 1 MiB"},
		"an endless error":      {endless(t, 500), "the answer has status 500"},
		"a redirect":            {redirect, "a redirect, which is not followed: 307"},
		"too many services":     {says(200, `{"services":[`+strings.Repeat("{},", 64)+`{}]}`), "names 65 services, and a pod has at most 64"},
	} {
		status, err := cluster(t, map[string]func(http.ResponseWriter){path: test.answer}).Status(t.Context(), pod)
		if test.says == "" && (err != nil || status.Pod != "web") || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: %+v, %v", name, status, err)
		}
	}
	if _, err := cluster(t, nil).Status(t.Context(), &corev1.Pod{}); err == nil {
		t.Error("a pod without agentlet has a status")
	}
}
