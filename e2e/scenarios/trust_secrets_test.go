package scenarios_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestTrustNoSecretLeaks searches all outputs for secrets. It runs alone, because it installs the chart with another log level.
func TestTrustNoSecretLeaks(t *testing.T) {
	s := scenario.New(t)
	literal, referred := "literal-"+rand.Text(), "referred-"+rand.Text()
	s.Given("a webhook that logs all it can", func() {
		reinstalled(s)
		s.Must(s.Install(s.Ctx, "log.level=debug"))
	})
	template := s.Sample(s.Annotations("log-level", "debug"))
	s.Given("a pod whose application has secrets in its environment, and whose agentlet logs all it can", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "secret", "generic", "planted", "--from-literal=token="+referred)
		s.Must(err)
		scenario.SetEnv(&template, "LITERAL", literal)
		app := &template.Spec.Containers[0]
		app.Env = append(app.Env, corev1.EnvVar{Name: "REFERRED", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "planted"}, Key: "token",
		}}})
		_, err = s.CreatePod("web", template)
		s.Must(err)
		s.AwaitReady("web")
	})
	secrets := planted(s, literal, referred)
	s.When("errors occur as well: an invalid annotation, a rejected pod", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", contract.ServicePort+"=no-such-port")
		s.Must(err)
		s.Eventually("the error to be seen", func(context.Context) (bool, error) {
			gate := scenario.Condition(s.Pod("web"), contract.Condition)
			return gate.Reason == string(contract.InvalidConfiguration), fmt.Errorf("the gate says %s", gate.Reason)
		})
		bad := *template.DeepCopy()
		bad.Annotations[contract.ServicePort] = "no-such-port"
		if _, err = s.CreatePod("refused", bad); err == nil {
			s.Error("a pod with an error was admitted")
		}
	})
	s.Then("no output contains a secret", func() {
		for place, text := range shown(s, s.Service(), template) {
			if len(text) < 20 {
				s.Errorf("%s: only %q", place, text)
			}
			for name, secret := range secrets {
				if strings.Contains(text, secret) {
					s.Errorf("%s shows %s", place, name)
				}
			}
			s.Logf("%s: %d bytes", place, len(text))
		}
	})
}

// Outputs that are searched.
const (
	thePatch     = "the admission's patch"
	theCatalog   = "Consul's catalog"
	theCondition = "the pod's status"
	theEvents    = "the events"
	ofAgentlet   = " of the agentlet"
	ofWebhook    = " of the webhook"
)

// planted are the secrets of the pod web and of the installation. Add new secrets here. Consul's tokens are searched for in
// loginLives, where there are some.
func planted(s *scenario.S, literal, referred string) map[string]string {
	s.Helper()
	pod := s.Pod("web")
	secrets := map[string]string{
		"a literal of the application's environment": literal,
		"a secret of the application's environment":  referred,
		"the agentlet's token":                       tokenInside(s, "web"),
	}
	for _, env := range registration.Agentlet(pod).Env {
		if env.Name == contract.EnvNonce {
			secrets["the drain hooks' nonce"] = env.Value
		}
	}
	for _, webhook := range awaitWebhooks(s) {
		token, err := scenario.ReadFile("/agentlet-webhook", webhook.Name, contract.IdentityPath+"/token")
		s.Must(err)
		secrets["the token of "+webhook.Name] = string(token)
	}
	authority, err := s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Get(s.Ctx, caSecret, metav1.GetOptions{})
	s.Must(err)
	key := authority.Data[corev1.TLSPrivateKeyKey]
	secrets["the authority's key"] = strings.Split(string(key), "\n")[1]
	secrets["the authority's key as in its secret"] = base64.StdEncoding.EncodeToString(key)
	for name, secret := range secrets {
		if len(secret) < 8 {
			s.Fatalf("%s is %q: nothing to look for", name, secret)
		}
	}
	if len(secrets) != 8 {
		s.Fatalf("%d secrets", len(secrets))
	}
	return secrets
}

// shown returns everything that can be seen of the pod web, which registers the service, and of the webhook, by place. Both log
// at the most verbose level.
func shown(s *scenario.S, service string, template corev1.PodTemplateSpec) map[string]string {
	s.Helper()
	places := map[string]string{}
	raw := func(namespace, pod, port, path string) string {
		body, _ := s.Kube.CoreV1().Pods(namespace).ProxyGet("http", pod, port, path, nil).DoRaw(s.Ctx)
		return string(body)
	}
	kubectl := func(args ...string) string {
		out, err := s.Kubectl(s.Ctx, args...)
		s.Must(err)
		return out
	}
	places["the log"+ofAgentlet] = kubectl("-n", s.Namespace, "logs", "web", "-c", contract.ContainerName)
	for _, path := range []string{"status", "metrics"} {
		places["/"+path+ofAgentlet] = raw(s.Namespace, "web", "19500", path)
	}
	for _, pod := range awaitWebhooks(s) {
		places["the log"+ofWebhook+" "+pod.Name] = kubectl("-n", scenario.SystemNamespace, "logs", pod.Name)
		for _, path := range []string{"readyz", "metrics"} {
			places["/"+path+ofWebhook+" "+pod.Name] = raw(scenario.SystemNamespace, pod.Name, "8080", path)
		}
	}
	places[theEvents] = kubectl("get", "events", "-A", "-o", "json")
	places[theCondition] = toJSON(s, s.Pod("web").Status)
	places[theCatalog] = toJSON(s, s.Catalog(service))
	places[thePatch] = answeredPatch(s, template)
	// The API server may have sent all of its requests to one of the replicas.
	oneReplica := slices.ContainsFunc(slices.Collect(maps.Keys(places)), func(place string) bool {
		return strings.HasPrefix(place, "the log"+ofWebhook) && strings.Contains(places[place], s.Namespace)
	})
	for place, text := range places {
		about := s.Namespace
		if oneReplica && strings.HasPrefix(place, "the log"+ofWebhook) {
			about = ""
		}
		if strings.Contains(place, "metrics") || strings.Contains(place, "readyz") || place == theCondition || place == thePatch {
			about = "" // these outputs don't name the pod
		}
		if !strings.Contains(text, about) {
			s.Errorf("%s says nothing of %s: the wrong thing was looked at", place, about)
		}
	}
	return places
}

func toJSON(s *scenario.S, value any) string {
	s.Helper()
	text, err := json.Marshal(value)
	s.Must(err)
	return string(text)
}

// answeredPatch returns a webhook replica's response to a request like the API server's.
func answeredPatch(s *scenario.S, template corev1.PodTemplateSpec) string {
	s.Helper()
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: template.ObjectMeta, Spec: template.Spec,
	}
	pod.Name = "asked"
	review := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "any", Namespace: s.Namespace, Name: pod.Name, Operation: admissionv1.Create,
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object:   runtime.RawExtension{Raw: []byte(toJSON(s, pod))},
		},
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{ServerName: webhookName, InsecureSkipVerify: true}, // not tested here
	}}
	url := "https://" + net.JoinHostPort(awaitWebhooks(s)[0].Status.PodIP, "9443") + "/mutate"
	request, err := http.NewRequestWithContext(s.Ctx, http.MethodPost, url, bytes.NewReader([]byte(toJSON(s, review))))
	s.Must(err)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	s.Must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	s.Must(err)
	var answer admissionv1.AdmissionReview
	s.Must(json.Unmarshal(body, &answer))
	if answer.Response == nil || answer.Response.UID != types.UID("any") || !strings.Contains(string(answer.Response.Patch), contract.ContainerName) {
		s.Fatalf("no patch: %s", body)
	}
	return string(answer.Response.Patch)
}
