package dryrun

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// answering returns a client whose API server injects (nil) or returns these errors, one after the other; it repeats the last
// one.
func answering(answers ...error) *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "pods", func(action k8stesting.Action) (bool, runtime.Object, error) {
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		pod := action.(k8stesting.CreateAction).GetObject().(*corev1.Pod).DeepCopy()
		switch {
		case answer == nil:
			pod.Spec.InitContainers = []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
		case !errors.Is(answer, ErrNotInjected):
			return true, nil, answer
		}
		return true, pod, nil
	})
	return client
}

func TestOnce(t *testing.T) {
	refused := errors.New("refused")
	for _, want := range []error{nil, ErrNotInjected, refused} {
		if got := Once(t.Context(), answering(want), "shop", nil); !errors.Is(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func TestUntil(t *testing.T) {
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		answers []error
		want    error
		took    time.Duration
	}{
		"at once":  {[]error{nil}, nil, 0},
		"after":    {[]error{refused, ErrNotInjected, nil}, nil, 2 * time.Second},
		"never":    {[]error{ErrNotInjected}, ErrNotInjected, 10 * time.Second},
		"the last": {[]error{ErrNotInjected, refused}, refused, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := Until(t.Context(), 10*time.Second, answering(test.answers...), "shop", nil)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) || time.Since(began) != test.took {
				t.Errorf("%s: %v after %s, want %v after %s", name, err, time.Since(began), test.want, test.took)
			}
		})
	}
}
