package scenarios_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/internal/pkitest"
)

// strangersBodies are fields of hostile reviews of a pod. Each kind once crashed a webhook, or kept it busy for minutes.
var strangersBodies = map[string]string{
	"a far exponent":   `"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"1e-999999999"}}}]}`,
	"null containers":  `"spec":{"containers":[null` + strings.Repeat(",null", 900_000) + `]}`,
	"empty containers": `"spec":{"containers":[{}` + strings.Repeat(",{}", 160_000) + `]}`,
	"unknown labels":   `"metadata":{"labels":{"agentlet.dev/service-nam":""` + unknownLabels(30_000) + `}}`,
	"lists in YAML":    `"metadata":{"annotations":{"agentlet.dev/services":"` + strings.Repeat("[", 60_000) + `"}}`,
	"a long text":      `"metadata":{"annotations":{"a":"` + strings.Repeat("x", 4<<20) + `"}}`,
}

func unknownLabels(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, `,"agentlet.dev/service-nam%d":""`, i)
	}
	return out.String()
}

// strangersTime is how long they are sent. strangersSenders is how many clients send each kind to each replica.
const (
	strangersTime    = 8 * time.Second
	strangersSenders = 2
)

// TestTrustStrangersBodies sends hostile bodies to the webhook's port, which all pods can reach.
func TestTrustStrangersBodies(t *testing.T) {
	s := scenario.New(t)
	var replicas []corev1.Pod
	var during *admissions
	answers := map[string]map[int]int{} // the number of answers by kind and status; status 0 means no answer
	s.Given("two replicas of the webhook", func() {
		installed(s)
		replicas = awaitWebhooks(s)
	})
	s.When("strangers send bodies that use far more memory than their size, for some time", func() {
		during = admitWhile(s, 0, func() {
			ctx, cancel := context.WithTimeout(s.Ctx, strangersTime)
			defer cancel()
			var senders sync.WaitGroup
			var mu sync.Mutex
			for kind, fields := range strangersBodies {
				answers[kind] = map[int]int{}
				for i := range replicas {
					for range strangersSenders {
						senders.Go(func() {
							sendReviews(ctx, &replicas[i], s.Namespace, fields, func(status int) {
								mu.Lock()
								defer mu.Unlock()
								answers[kind][status]++
							})
						})
					}
				}
			}
			senders.Wait()
		})
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "strangers_bodies") })
	s.Then("each body was answered", func() {
		for kind, statuses := range answers {
			s.Logf("%s: %v", kind, statuses)
			if statuses[http.StatusOK] == 0 {
				s.Errorf("%s: no answer with a denial: %v", kind, statuses)
			}
		}
	})
	s.Then("no replica was restarted", func() {
		for _, now := range awaitWebhooks(s) {
			if before := restartsOf(replicas, now.UID); before < 0 || restarts(&now) != before {
				s.Errorf("%s has %d restarts, and had %d (-1: is another pod): %+v", now.Name, restarts(&now), before, now.Status.ContainerStatuses)
			}
		}
	})
}

func restarts(pod *corev1.Pod) (n int) {
	for _, status := range pod.Status.ContainerStatuses {
		n += int(status.RestartCount)
	}
	return n
}

// restartsOf returns the restarts of the pod with that UID; -1 if there is no such pod.
func restartsOf(pods []corev1.Pod, uid types.UID) int {
	for i := range pods {
		if pods[i].UID == uid {
			return restarts(&pods[i])
		}
	}
	return -1
}

// sendReviews sends reviews of a pod with these fields to a replica, one after the other, until the context ends.
func sendReviews(ctx context.Context, replica *corev1.Pod, namespace, fields string, answered func(status int)) {
	body := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"stranger","kind":{"version":"v1","kind":"Pod"},` +
		`"namespace":"` + namespace + `","operation":"CREATE","object":{"apiVersion":"v1","kind":"Pod",` + fields + `}}}`)
	client := strangersClient(nil)
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		status, err := sendReview(ctx, client, replica, body)
		if err != nil && ctx.Err() != nil {
			return
		}
		answered(status)
	}
}

// strangersClient returns a client that presents this certificate, or none.
func strangersClient(shown *tls.Certificate) *http.Client {
	config := &tls.Config{ServerName: webhookName, InsecureSkipVerify: true} // the webhook's certificate is not tested here
	if shown != nil {
		config.Certificates = []tls.Certificate{*shown}
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
}

func sendReview(ctx context.Context, client *http.Client, replica *corev1.Pod, body []byte) (status int, err error) {
	url := "https://" + net.JoinHostPort(replica.Status.PodIP, "9443") + "/mutate?timeout=10s"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// TestTrustClientCertificate tests a webhook that requires the API server's client certificate.
func TestTrustClientCertificate(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	reinstalled(s)
	s.Given("a webhook that demands a certificate of its clients", func() {
		authority, err := os.ReadFile(s.Cluster.WebhookClientCA())
		s.Must(err)
		s.Must(s.Install(s.Ctx, "webhook.clientCA="+string(authority)))
	})
	s.Then("the API server presents one: pods are injected, and helm test passes", func() {
		dryPod(s)
		_, err := s.HelmOutput(s.Ctx, "test", scenario.Release, "--timeout=90s")
		s.Must(err)
	})
	review := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"stranger","operation":"DELETE"}}`)
	s.Then("all other clients are rejected, with another certificate or without one", func() {
		certificate, key := pkitest.Sign(s, &x509.Certificate{
			Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}, nil, nil)
		another := &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}
		for name, shown := range map[string]*tls.Certificate{"none": nil, "another": another} {
			for _, replica := range awaitWebhooks(s) {
				if status, err := sendReview(s.Ctx, strangersClient(shown), &replica, review); err == nil || !strings.Contains(err.Error(), "tls: ") {
					s.Errorf("%s, %s: %d, %v", replica.Name, name, status, err)
				}
			}
		}
	})
}
