package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedauthorizationv1 "k8s.io/client-go/kubernetes/typed/authorization/v1"
)

// farReviews allows everything, as an API server far away does: each answer takes a while.
type farReviews struct {
	kubernetes.Interface
	typedauthorizationv1.AuthorizationV1Interface
	typedauthorizationv1.SubjectAccessReviewInterface
	// fails is the account without an answer.
	fails string
}

func (f *farReviews) AuthorizationV1() typedauthorizationv1.AuthorizationV1Interface { return f }

func (f *farReviews) SubjectAccessReviews() typedauthorizationv1.SubjectAccessReviewInterface {
	return f
}

func (f *farReviews) Create(
	ctx context.Context,
	review *authorizationv1.SubjectAccessReview,
	_ metav1.CreateOptions,
) (*authorizationv1.SubjectAccessReview, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(100 * time.Millisecond):
	}
	if f.fails != "" && strings.HasSuffix(review.Spec.User, ":"+f.fails) {
		return nil, errors.New("no answer")
	}
	review.Status.Allowed = true
	return review, nil
}

// TestGrantsOfManyAccounts has four times as many accounts as are asked for at once, at three reviews each.
func TestGrantsOfManyAccounts(t *testing.T) {
	for name, test := range map[string]struct {
		fails string
		want  Finding
		most  time.Duration
	}{
		"all answers": {"", Finding{Level: OK, Check: "grants", Message: "64 of 64 service accounts with injected pods may do what an agentlet needs"}, 1300 * time.Millisecond},
		"no answer":   {"web3", Finding{Level: Skip, Check: "grants", Message: "can't ask what service accounts may do: review access: no answer"}, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &run{Config: Config{Kube: &farReviews{fails: test.fails}, Now: now}, facts: facts{podsRead: true}}
				for i := range 4 * parallel {
					pod := injectedPod(fmt.Sprintf("web%d", i), func(pod *corev1.Pod) { pod.Spec.ServiceAccountName = pod.Name })
					r.facts.pods = append(r.facts.pods, pod)
				}
				start := time.Now()
				r.grants(t.Context())
				if len(r.findings) != 1 || r.findings[0] != test.want {
					t.Errorf("want %+v, got %+v", test.want, r.findings)
				}
				if took := time.Since(start); took > test.most {
					t.Errorf("it took %s, and may take %s", took, test.most)
				}
			})
		})
	}
}
