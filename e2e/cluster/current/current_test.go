package current

import (
	"errors"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/e2e/load/driver"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/hack/image"
	"github.com/agentlet/agentlet/hack/toolchain"
	"github.com/agentlet/agentlet/internal/cli/installation"
)

func TestMethod(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		context string
		want    string // the command, or push, or present
		wrong   string
	}{
		"kind by its context":     {context: "kind-try", want: "kind load image-archive TAR --name try"},
		"k3d by its context":      {context: "k3d-try", want: "k3d image import TAR --cluster try"},
		"minikube by its context": {context: "minikube", want: "minikube image load TAR --profile minikube"},
		"minikube by name":        {options: Options{Images: "minikube"}, context: "mine", want: "minikube image load TAR --profile mine"},
		"a registry":              {options: Options{Image: "registry.example/try:dev"}, context: "kind-try", want: "push"},
		"a registry by name":      {options: Options{Images: "registry", Image: "registry.example/try:dev"}, context: "x", want: "push"},
		"an image that is there":  {options: Options{Images: "present", Image: "registry.example/try:dev"}, context: "x", want: "present"},
		"a command": {
			options: Options{Load: "ctr images import"}, context: "kind-try", want: `sh -c ctr images import "$@" sh TAR`,
		},
		"a context that says nothing": {context: "prod", wrong: "the context prod is not called as"},
		"a way that is none":          {options: Options{Images: "docker"}, context: "x", wrong: "IMAGES=docker: want " + ways},
		"an image for kind":           {options: Options{Images: "kind", Image: "a:b"}, context: "kind-a", wrong: "IMAGE=a:b with IMAGES=kind"},
		"a command for kind":          {options: Options{Images: "kind", Load: "x"}, context: "kind-a", wrong: "LOAD=x with IMAGES=kind"},
		"no command":                  {options: Options{Images: "command"}, context: "x", wrong: "IMAGES=command without LOAD"},
		"no image":                    {options: Options{Images: "registry"}, context: "x", wrong: "want registry/name:tag"},
		"an image without a tag":      {options: Options{Image: "registry.example/try"}, context: "x", wrong: "want registry/name:tag"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := test.options.method(test.context)
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("the error is %v, want %q", err, test.wrong)
				}
				return
			}
			got := strings.Join(slices.Concat(m.load, []string{"TAR"}, m.after), " ")
			if m.push {
				got = "push"
			} else if m.load == nil {
				got = "present"
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	node := func(os, architecture string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelOSStable: os, corev1.LabelArchStable: architecture}}}
	}
	namespace := func(name string, labels map[string]string) corev1.Namespace {
		return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	cordoned := node("linux", "arm64")
	cordoned.Spec.Unschedulable = true
	one := []corev1.Node{node("linux", "amd64")}
	hook := admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "theirs"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: installation.HookName, ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "their-system", Name: "webhook"},
			},
		}},
	}
	for name, test := range map[string]struct {
		found       found
		want, wrong string
	}{
		"a cluster": {found: found{nodes: one, namespaces: []corev1.Namespace{namespace("shop", nil)}}, want: "amd64"},
		"nodes that don't count": {
			found: found{nodes: []corev1.Node{node("linux", "arm64"), node("windows", "amd64"), node("linux", "arm64")}}, want: "arm64",
		},
		"another Agentlet": {
			found: found{nodes: one, hooks: []admissionregistrationv1.MutatingWebhookConfiguration{hook}},
			wrong: "installed there already (MutatingWebhookConfiguration theirs, which calls the service their-system/webhook)",
		},
		"another run": {
			found: found{nodes: one, namespaces: []corev1.Namespace{namespace("x", map[string]string{Label: Applications})}},
			wrong: "the namespace x is of another run",
		},
		"a namespace of the name": {
			found: found{nodes: one, namespaces: []corev1.Namespace{namespace(ConsulNamespace, nil)}},
			wrong: "there is a namespace agentlet-try-consul",
		},
		"no node for pods":  {found: found{nodes: []corev1.Node{cordoned}}, wrong: "none of its nodes"},
		"two architectures": {found: found{nodes: []corev1.Node{node("linux", "arm64"), node("linux", "amd64")}}, wrong: "amd64, arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.found.check()
			if test.wrong == "" && (err != nil || got != test.want) {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("the error is %v, want %q", err, test.wrong)
			}
		})
	}
}

// TestDownTouchesOnlyWhatWasMade: kubectl says other things, too, and may fail.
func TestDownTouchesOnlyWhatWasMade(t *testing.T) {
	const program = `#!/bin/sh
echo "Using the default profile" >&2
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in *"get -o name namespaces"*) printf "$LEFT" ;; esac
`
	namespace := func(name, is string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{Label: is}}}
	}
	theirs := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for name, test := range map[string]struct {
		objects    []runtime.Object
		fails      bool
		left       string // what kubectl lists in the end
		wrong      string
		has, lacks []string // calls, those that it has in their order
	}{
		"nothing": {objects: []runtime.Object{theirs}, lacks: []string{"deployments", "helm"}},
		"a whole run": {
			objects: []runtime.Object{theirs, namespace(SystemNamespace, parts), namespace("shop", Applications)},
			has: []string{
				"-n shop delete deployments,statefulsets,jobs,pods --all --timeout=1m30s", "delete namespaces -l " + Label + "=" + Applications,
				"helm --kube-context= --namespace=" + SystemNamespace + " uninstall",
				"delete mutatingwebhookconfigurations,", "-l app.kubernetes.io/instance=" + Release,
				"delete namespaces -l " + Label + " ",
			},
			lacks: []string{"-n default", "-n " + SystemNamespace + " delete"},
		},
		"something is left": {
			objects: []runtime.Object{theirs}, left: "namespace/shop\nnamespace/web\n", wrong: "left in the cluster: namespace/shop, namespace/web",
		},
		"the API server fails": {objects: []runtime.Object{theirs}, fails: true, wrong: "away", lacks: []string{"delete"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			calls := filepath.Join(dir, "calls")
			for _, name := range []string{"kubectl", "helm"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			t.Setenv("CALLS", calls)
			t.Setenv("LEFT", test.left)
			kube := fake.NewClientset(test.objects...)
			if test.fails {
				kube.PrependReactor("list", "namespaces", func(k8stesting.Action) (bool, runtime.Object, error) {
					return true, nil, errors.New("away")
				})
			}
			err := (&Cluster{Kube: kube, Root: dir}).Down(t.Context())
			if (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("Down = %v, want %q", err, test.wrong)
			}
			text, err := os.ReadFile(calls)
			if err != nil && !test.fails {
				t.Fatal(err)
			}
			rest := string(text)
			for _, part := range test.has {
				var found bool
				if _, rest, found = strings.Cut(rest, part); !found {
					t.Fatalf("no call has %q, or one in a wrong place:\n%s", part, text)
				}
			}
			for _, part := range test.lacks {
				if strings.Contains(string(text), part) {
					t.Errorf("a call has %q:\n%s", part, text)
				}
			}
		})
	}
}

// TestDownDrainsAtTheSameTime: in each namespace kubectl ends only once it has begun in the other one, too.
func TestDownDrainsAtTheSameTime(t *testing.T) {
	const program = `#!/bin/sh
case "$*" in *"delete deployments"*) ;; *) exit ;; esac
touch "began-$3"
for i in $(seq 200); do
	if [ -e began-shop ] && [ -e began-web ]; then exit; fi
	sleep 0.05
done
exit 1
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	labels := map[string]string{Label: Applications}
	kube := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: labels}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: labels}})
	if err := (&Cluster{Kube: kube, Root: dir}).Down(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOverlay renders the overlay, and checks that its Consul takes nothing of the nodes but its ports.
func TestOverlay(t *testing.T) {
	kubectl := os.Getenv("AGENTLET_TEST_KUBECTL")
	if kubectl == "" {
		t.Skip("AGENTLET_TEST_KUBECTL is not set; make unit-e2e sets it")
	}
	root, err := toolchain.Root()
	if err != nil {
		t.Fatal(err)
	}
	folder, err := (&Cluster{Root: root}).writeOverlay()
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := exec.CommandContext(t.Context(), kubectl, "kustomize", folder).Output()
	if err != nil {
		t.Fatal(err)
	}
	out := string(rendered)
	for _, part := range []string{"replicas: 1\n", "hostPort: 18500\n", "hostPort: 18301\n", Label + ": " + parts + "\n"} {
		if !strings.Contains(out, part) {
			t.Errorf("there is no %q", part)
		}
	}
	for _, part := range []string{"hostPath", "volumeClaimTemplates", "hostPort: 8", "namespace: consul\n", "name: consul\n  labels"} {
		if strings.Contains(out, part) {
			t.Errorf("there is %q", part)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestImageValues(t *testing.T) {
	for reference, want := range map[string][3]string{
		"agentlet.test/try:0123":                {"agentlet.test/try", "0123", ""},
		"registry.example:5000/try:a@sha256:01": {"registry.example:5000/try", "a", "sha256:01"},
	} {
		got := imageValues(reference)
		if got["repository"] != want[0] || got["tag"] != want[1] || got["digest"] != want[2] {
			t.Errorf("%s is %v, want %v", reference, got, want)
		}
	}
}

// TestPush pushes an image to a registry without TLS.
func TestPush(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := image.Build(image.Spec{Files: []image.File{{Path: "/program", Source: program}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(t.Output(), "", 0))))
	t.Cleanup(server.Close)
	to := strings.TrimPrefix(server.URL, "http://") + "/team/try:dev"
	reference, err := push(t.Context(), Options{Image: to, PlainHTTP: true}, img)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want := to + "@" + digest.String(); reference != want {
		t.Errorf("it is %s, want %s", reference, want)
	}
}

func TestOrderly(t *testing.T) {
	at := time.Unix(1000, 0)
	gone := []observe.Life{{Pod: "a", UID: "a"}}
	life := func(left, stopped time.Duration) []observe.Life {
		return []observe.Life{{Pod: "a", UID: "a", At: map[observe.Station]time.Time{
			observe.OutOfCatalog: at.Add(left), observe.Terminated: at.Add(stopped),
		}}}
	}
	for name, test := range map[string]struct {
		state driver.State
		wrong string
	}{
		"in order":               {state: driver.State{Requests: 9, Lives: life(1, 2)}},
		"a failed request":       {state: driver.State{Requests: 9, Failed: 1, Lives: life(1, 2)}, wrong: "1 of 9 requests failed"},
		"no request":             {state: driver.State{Lives: life(1, 2)}, wrong: "0 of 0"},
		"SIGTERM too early":      {state: driver.State{Requests: 9, Lives: life(2, 1)}, wrong: "a got no SIGTERM after"},
		"never in the catalog":   {state: driver.State{Requests: 9}, wrong: "a was never in the catalog"},
		"a SIGTERM not reported": {state: driver.State{Requests: 9, Lives: []observe.Life{{UID: "a"}}}, wrong: "a got no SIGTERM after"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Orderly(test.state, gone)
			if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("the error is %v, want %q", err, test.wrong)
			}
		})
	}
}
