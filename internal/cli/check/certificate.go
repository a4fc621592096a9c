package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/installation"
)

const (
	expiryMetric = "agentlet_webhook_certificate_expiry_timestamp_seconds"
	layout       = "2006-01-02 15:04"
	// soon is when a certificate should have been renewed: with certs.source=self-signed that is done eight hours before it
	// expires.
	soon = time.Hour
	// lastSecond is the first second after the year 9999, whose dates don't have four-digit years.
	lastSecond = 253402300800
)

// certificate checks when the certificate that a replica serves expires, by the replica's metric. Whether it matches the caBundle
// is part of the replica's readiness.
func (r *run) certificate(ctx context.Context, pod *corev1.Pod) {
	body, err := r.Cluster.Pod(ctx, pod.Namespace, pod.Name, installation.HealthPort(pod), "metrics")
	if errors.Is(err, apiproxy.ErrTooLarge) {
		r.add(Skip, "webhook", "pod/"+pod.Namespace+"/"+pod.Name, "can't read its certificate's end: "+err.Error(), "")
	}
	if err != nil {
		return // already reported with its readiness
	}
	until, ok := expiry(body)
	if !ok {
		return
	}
	subject, text := "pod/"+pod.Namespace+"/"+pod.Name, "serves a certificate until "+until.Format(layout)
	remedy := fmt.Sprintf("see who should renew it: kubectl -n %s logs %s", pod.Namespace, pod.Name)
	switch left := until.Sub(r.Now); {
	case left <= 0:
		r.add(Fail, "webhook", subject, "serves a certificate that has expired on "+until.Format(layout), remedy)
	case left < soon:
		r.add(Warn, "webhook", subject, text+", and it is not renewed", remedy)
	default:
		r.add(OK, "webhook", subject, text, "")
	}
}

// expiry returns the expiry of the certificate in a replica's metrics.
func expiry(metrics []byte) (time.Time, bool) {
	for line := range bytes.Lines(metrics) {
		if value, found := strings.CutPrefix(string(line), expiryMetric+" "); found {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return time.Unix(int64(seconds), 0).UTC(), err == nil && seconds > 0 && seconds < lastSecond
		}
	}
	return time.Time{}, false
}

// workloads checks the webhook that validates workloads. Nothing depends on it, so its findings are never failures.
func (r *run) workloads(ctx context.Context) {
	list, err := r.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if !r.read("validating webhook configurations", err) || r.facts.hook == nil {
		return
	}
	name, hook := workloadsHook(list.Items)
	if hook == nil {
		r.add(Skip, "webhook", "", "workloads are not judged when they are applied (webhook.workloads.enabled in the chart)", "")
		return
	}
	subject := "validatingwebhookconfiguration/" + name
	bundle := hook.ClientConfig.CABundle
	message, err := r.trust(bundle)
	if err == nil && !bytes.Equal(bundle, r.facts.hook.ClientConfig.CABundle) {
		err = fmt.Errorf("its caBundle is not that of mutatingwebhookconfiguration/%s", r.facts.configuration)
	}
	if err != nil {
		r.add(Warn, "webhook", subject, err.Error()+"; errors in workloads show only when their pods are created",
			"the webhook writes it: read its log; where certs.caBundle is set, the chart does")
		return
	}
	r.add(OK, "webhook", subject, message, "")
}

func workloadsHook(
	all []admissionregistrationv1.ValidatingWebhookConfiguration,
) (string, *admissionregistrationv1.ValidatingWebhook) {
	for i := range all {
		for k := range all[i].Webhooks {
			if hook := &all[i].Webhooks[k]; hook.Name == workloadsName {
				return all[i].Name, hook
			}
		}
	}
	return "", nil
}
