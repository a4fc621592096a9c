package current

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/e2e/load/driver"
)

// TestClaim makes Consul's namespace with answers that get lost, and with another run that is faster.
func TestClaim(t *testing.T) {
	for name, test := range map[string]struct {
		// written is set if the API server writes the namespace, fails if its answer is an error, away if it then doesn't answer.
		written, fails, away bool
		others               *corev1.Namespace
		made                 bool
		wrong                string
	}{
		"made":                     {written: true, made: true},
		"the answer is lost":       {written: true, fails: true, made: true, wrong: "interrupted"},
		"not made":                 {fails: true, wrong: "interrupted"},
		"unknown":                  {written: true, fails: true, away: true, wrong: "may be there nevertheless; " + Remove},
		"another run":              {written: true, others: &corev1.Namespace{}, wrong: "already exists"},
		"another run, answer lost": {fails: true, others: &corev1.Namespace{}, wrong: "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			kube := fake.NewClientset()
			if test.others != nil {
				test.others.Name, test.others.Annotations = ConsulNamespace, map[string]string{runAnnotation: "theirs"}
				kube = fake.NewClientset(test.others)
			}
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			kube.PrependReactor("create", "namespaces", func(action k8stesting.Action) (bool, runtime.Object, error) {
				if !test.fails {
					return false, nil, nil
				}
				interrupt()
				if test.written {
					create, _ := action.(k8stesting.CreateAction)
					if err := kube.Tracker().Add(create.GetObject()); err != nil {
						t.Error(err)
					}
				}
				return true, nil, errors.New("interrupted")
			})
			kube.PrependReactor("get", "namespaces", func(k8stesting.Action) (bool, runtime.Object, error) {
				return test.away, nil, errors.New("away")
			})
			made, err := (&Cluster{Kube: kube}).claim(ctx)
			if made != test.made || (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("claim = %v, %v; want %v, %q", made, err, test.made, test.wrong)
			}
		})
	}
}

// TestStartDriverAfterALostAnswer: the API server makes the pod, and the connection breaks before its answer.
func TestStartDriverAfterALostAnswer(t *testing.T) {
	creations := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodGet:
			_ = json.NewEncoder(w).Encode(driver.State{Passing: 3})
			return
		case creations == 0:
			creations++
			panic(http.ErrAbortHandler)
		}
		creations++
		status := apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, driver.Name).Status()
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(status)
	}))
	t.Cleanup(server.Close)
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	state, err := StartDriver(ctx, driver.Client{Kube: kube, Namespace: "shop"}, driver.Pod("image", "web", ConsulPort))
	if err != nil || state.Passing != 3 || creations != 2 {
		t.Errorf("StartDriver = %+v, %v after %d creations", state, err, creations)
	}
}

// TestClaimLooksAlsoAfterAnInterruption: the API server makes the namespace, and the interruption comes before its answer.
func TestClaimLooksAlsoAfterAnInterruption(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var made []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet {
			_, _ = w.Write(made)
			return
		}
		made, _ = io.ReadAll(r.Body)
		interrupt()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON}}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if there, err := (&Cluster{Kube: kube}).claim(ctx); !there || !errors.Is(err, context.Canceled) {
		t.Errorf("claim = %v, %v; want it made, and interrupted", there, err)
	}
}
