package openshift

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestAssignsUsers(t *testing.T) {
	const group = `{"kind":"APIGroup","apiVersion":"v1","name":"security.openshift.io","versions":[{"groupVersion":"security.openshift.io/v1","version":"v1"}]}`
	for name, c := range map[string]struct {
		status    int
		body      string
		want      bool
		wantError string
	}{
		"the group is there":         {http.StatusOK, group, true, ""},
		"an API server without it":   {http.StatusNotFound, "404 page not found\n", false, ""},
		"the same, as a status":      {http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`, false, ""},
		"groups are not all there":   {http.StatusServiceUnavailable, "starting", false, "group security.openshift.io"},
		"discovery is not permitted": {http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}`, false, "group security.openshift.io: no"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/apis/security.openshift.io" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Content-Type", "text/plain; charset=utf-8")
				if strings.HasPrefix(c.body, "{") {
					w.Header().Set("Content-Type", "application/json")
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{
				AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON, ContentType: runtime.ContentTypeProtobuf,
			}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := AssignsUsers(t.Context(), client.Discovery().RESTClient())
			if got != c.want || (err == nil) != (c.wantError == "") || err != nil && !strings.Contains(err.Error(), c.wantError) {
				t.Errorf("%t, %v", got, err)
			}
		})
	}
}
