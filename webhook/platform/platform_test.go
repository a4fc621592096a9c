package platform

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
)

func config(user injector.RunAsUser) injector.Config {
	return injector.Config{Image: "agentlet:1", ConsulPort: 8500, ConsulScheme: "http", RunAsUser: user}
}

// userOf is the user of the agentlet that is added to a pod; nil: none.
func userOf(t *testing.T, d *Decider) *int64 {
	t.Helper()
	decision := d.Decide(injector.Request{Namespace: "shop", Nonce: "n", Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
	}})
	for _, op := range decision.Patch {
		switch value := op.Value.(type) {
		case *corev1.Container:
			return value.SecurityContext.RunAsUser
		case []*corev1.Container:
			return value[0].SecurityContext.RunAsUser
		}
	}
	t.Fatalf("%+v", decision)
	return nil
}

func TestThePlatformDecidesOnTheUser(t *testing.T) {
	for name, c := range map[string]struct {
		user    injector.RunAsUser
		assigns bool
		asked   int
		want    int64 // 0: none
	}{
		"auto, users are assigned": {injector.RunAsAuto, true, 1, 0},
		"auto, they are not":       {injector.RunAsAuto, false, 1, 65532},
		"nothing is said":          {"", true, 1, 0},
		"none":                     {injector.RunAsNone, false, 0, 0},
		"a number":                 {"1234", true, 0, 1234},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			d, err := New(config(c.user), func(context.Context) (bool, error) { asked++; return c.assigns, nil }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if (d.Ready() == nil) != (c.asked == 0) {
				t.Errorf("before the question: %v", d.Ready())
			}
			if err := d.Run(t.Context()); err != nil || asked != c.asked || d.Ready() != nil {
				t.Fatalf("%v, asked %d times, ready: %v", err, asked, d.Ready())
			}
			if got := userOf(t, d); (got == nil) != (c.want == 0) || got != nil && *got != c.want {
				t.Errorf("user %v, want %d", got, c.want)
			}
		})
	}
}

func TestTheQuestionIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures = 20
		asked, started := 0, time.Now()
		d, err := New(config(injector.RunAsAuto), func(context.Context) (bool, error) {
			if asked++; asked <= failures {
				return true, errors.New("away")
			}
			return true, nil
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); err != nil || d.Ready() != nil || asked != failures+1 {
			t.Errorf("%v, asked %d times, ready: %v", err, asked, d.Ready())
		}
		if took := time.Since(started); took < 2*time.Minute || took > 5*time.Minute {
			t.Errorf("%d questions in %s", asked, took)
		}
	})
}

func TestTheQuestionEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d, err := New(config(injector.RunAsAuto), func(context.Context) (bool, error) { return false, errors.New("away") }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(ctx); err != nil || d.Ready() == nil {
			t.Errorf("%v, ready: %v", err, d.Ready())
		}
	})
}

func TestErrorsOfTheConfiguration(t *testing.T) {
	if d, err := New(config("root"), nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("%+v", d)
	}
}
