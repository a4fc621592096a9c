package registration

import (
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func sleeps(seconds int64) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
}

func gets(port intstr.IntOrString, change ...func(*corev1.HTTPGetAction)) *corev1.LifecycleHandler {
	get := &corev1.HTTPGetAction{Path: "/stop", Port: port, Scheme: corev1.URISchemeHTTP}
	for _, c := range change {
		c(get)
	}
	return &corev1.LifecycleHandler{HTTPGet: get}
}

func withPreStop(h *corev1.LifecycleHandler) corev1.Container {
	return corev1.Container{
		Name: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}, Lifecycle: &corev1.Lifecycle{PreStop: h},
	}
}

func injectedHook(path string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: path, Port: intstr.FromInt32(19500), HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: "n"}},
	}}
}

func TestReadPreStop(t *testing.T) {
	number, named := intstr.FromInt32(9000), intstr.FromString("http")
	host := func(name string) func(*corev1.HTTPGetAction) {
		return func(get *corev1.HTTPGetAction) { get.Host = name }
	}
	onHost := func(pod *corev1.Pod) { pod.Spec.HostNetwork = true }
	for name, test := range map[string]struct {
		own   *corev1.LifecycleHandler
		pod   func(*corev1.Pod)
		want  PreStop // without HTTPGet
		fails string
	}{
		"a sleep":                     {own: sleeps(3), want: PreStop{Sleep: 3 * time.Second}},
		"no sleep":                    {own: sleeps(0)},
		"as long as the grace period": {own: sleeps(30), want: PreStop{Sleep: 30 * time.Second}},
		"longer":                      {own: sleeps(31), fails: "its sleep of 31 seconds is not between 0 and terminationGracePeriodSeconds, 30"},
		"negative":                    {own: sleeps(-1), fails: "not between 0 and"},
		"endless": {
			own: sleeps(math.MaxInt64), want: PreStop{Sleep: maxDuration},
			pod: func(pod *corev1.Pod) { pod.Spec.TerminationGracePeriodSeconds = new(int64(math.MaxInt64)) },
		},
		"a port":                      {own: gets(number), want: PreStop{Port: 9000}},
		"a port's name":               {own: gets(named), want: PreStop{Port: 8080}},
		"another container's port":    {own: gets(intstr.FromString("admin")), fails: `the container has no port "admin"`},
		"no port":                     {own: gets(intstr.FromInt32(0)), fails: `no port "0"`},
		"the pod's IP":                {own: gets(number, host("10.1.0.5")), want: PreStop{Port: 9000}},
		"another host":                {own: gets(number, host("10.1.0.6")), fails: `it goes to "10.1.0.6" and not to the pod's own IP`},
		"the node's loopback":         {own: gets(number, host("127.0.0.1")), fails: `"127.0.0.1" and not`},
		"its own loopback":            {own: gets(number, host("127.0.0.1")), pod: onHost, want: PreStop{Host: "127.0.0.1", Port: 9000}},
		"another host from the host":  {own: gets(number, host("10.1.0.6")), pod: onHost, fails: `"10.1.0.6" and not`},
		"HTTPS":                       {own: gets(number, func(get *corev1.HTTPGetAction) { get.Scheme = "HTTPS" }), want: PreStop{Port: 9000}},
		"another scheme":              {own: gets(number, func(get *corev1.HTTPGetAction) { get.Scheme = "FTP" }), fails: `its scheme "FTP"`},
		"a header":                    {own: gets(number, func(get *corev1.HTTPGetAction) { get.HTTPHeaders = []corev1.HTTPHeader{{Name: "X"}} }), want: PreStop{Port: 9000}},
		"a header that is none":       {own: gets(number, func(get *corev1.HTTPGetAction) { get.HTTPHeaders = []corev1.HTTPHeader{{Name: "X: y"}} }), fails: `"X: y" is no name`},
		"exec":                        {own: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{}}, fails: "it is an exec hook"},
		"two kinds":                   {own: &corev1.LifecycleHandler{Sleep: sleeps(1).Sleep, HTTPGet: gets(number).HTTPGet}, fails: "does not know"},
		"a kind that nobody can call": {own: &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{}}, fails: "does not know"},
		"a kind of later":             {own: &corev1.LifecycleHandler{}, fails: "does not know"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(nil)
			pod.Status.PodIP = "10.1.0.5"
			pod.Spec.Containers = []corev1.Container{withPreStop(test.own)}
			if test.pod != nil {
				test.pod(pod)
			}
			hook, err := ReadPreStop(pod, &pod.Spec.Containers[0], test.own)
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Fatalf("error %v, want %q", err, test.fails)
			}
			if err == nil {
				test.want.HTTPGet = test.own.HTTPGet
				if diff := cmp.Diff(test.want, hook); diff != "" {
					t.Errorf("hook (-want +got):\n%s", diff)
				}
			}

			if left := Chained(pod); left != nil {
				t.Errorf("before it is chained, the kubelet runs it: %+v", left)
			}
			// The agentlet finds in the injected pod what the injector has found in the pod, and nothing that can't be run.
			pod.Spec.Containers[0].Lifecycle.PreStop = injectedHook(DrainPath(test.own))
			chained, there := Chained(pod)["web"]
			if there != (err == nil) {
				t.Fatalf("chained: %t, want %t", there, err == nil)
			}
			if diff := cmp.Diff(hook, chained); there && diff != "" {
				t.Errorf("chained (-before +after):\n%s", diff)
			}
		})
	}
}

func TestOwnHook(t *testing.T) {
	for name, test := range map[string]struct {
		hook, want *corev1.LifecycleHandler
		injected   bool
	}{
		"none":                   {nil, nil, false},
		"its own":                {sleeps(3), sleeps(3), false},
		"injected":               {injectedHook("/drain"), nil, true},
		"chained":                {injectedHook(DrainPath(sleeps(3))), sleeps(3), true},
		"what is none":           {injectedHook("/drain#later"), nil, true},
		"its own at such a path": {gets(intstr.FromInt32(1), func(get *corev1.HTTPGetAction) { get.Path = "/drain#a" }), gets(intstr.FromInt32(1), func(get *corev1.HTTPGetAction) { get.Path = "/drain#a" }), false},
		"rewritten by Istio":     {injectedHook("/app-lifecycle/web/prestopz"), nil, true},
		"another path":           {injectedHook("/drains"), injectedHook("/drains"), false},
	} {
		t.Run(name, func(t *testing.T) {
			c := withPreStop(test.hook)
			if diff := cmp.Diff(test.want, OwnHook(&c)); diff != "" {
				t.Errorf("own hook (-want +got):\n%s", diff)
			}
			if IsDrainHook(test.hook) != test.injected {
				t.Errorf("a drain hook: %t, want %t", !test.injected, test.injected)
			}
		})
	}
	if own := OwnHook(&corev1.Container{}); own != nil {
		t.Errorf("a container without hooks has %+v", own)
	}
}

// TestOwnHookStaysInThePod holds that the kubelet's request says nothing of the container's own hook, whatever that is made of,
// and that the hook survives.
func TestOwnHookStaysInThePod(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.RequestURI }))
	defer server.Close()
	var all strings.Builder
	for c := range rune(0x180) {
		all.WriteRune(c)
	}
	for name, text := range map[string]string{
		"ordinary": "/stop?a=b&c=<d>", "escaped": "/a%20b%25%2525c", "fragments": "#a#b", "all": all.String(), "expanded": "$(POD_IP) $$",
	} {
		t.Run(name, func(t *testing.T) {
			own := gets(intstr.FromInt32(80), func(get *corev1.HTTPGetAction) {
				get.Path, get.HTTPHeaders = text, []corev1.HTTPHeader{{Name: "X", Value: text}}
			})
			hook := injectedHook(DrainPath(own))
			to, err := url.Parse(hook.HTTPGet.Path) // as the kubelet does
			if err != nil {
				t.Fatal(err)
			}
			to.Scheme, to.Host = "http", strings.TrimPrefix(server.URL, "http://")
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to.String(), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if got := <-asked; got != contract.DrainPath {
				t.Errorf("the kubelet asks for %q", got)
			}
			c := withPreStop(hook)
			if diff := cmp.Diff(own, OwnHook(&c)); diff != "" {
				t.Errorf("own hook (-before +after):\n%s", diff)
			}
		})
	}
}

func TestOwnHookThatTakesTheGracePeriod(t *testing.T) {
	const at = "and the sleep of its own preStop hook are"
	for name, test := range map[string]struct {
		mode, delay string
		hook        *corev1.LifecycleHandler
		grace       *int64
		want        string
	}{
		"enough is left":           {"chain", "5s", sleeps(24), nil, ""},
		"nothing is left":          {"chain", "5s", sleeps(25), nil, `container "web": agentlet.dev/drain-delay ` + at + ` 30s together, and terminationGracePeriodSeconds is 30`},
		"it is chained already":    {"chain", "5s", injectedHook(DrainPath(sleeps(25))), nil, at},
		"the drain's share counts": {"chain", "20m", sleeps(9), nil, "ask for 20m together"},
		"not chained":              {"true", "5s", sleeps(25), nil, ""},
		"a request":                {"chain", "5s", gets(intstr.FromInt32(80)), nil, ""},
		"no end":                   {"chain", "5s", sleeps(25), new(int64(math.MaxInt64)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotations{"service-names": "web", "drain-hook": test.mode, "drain-delay": test.delay, "heartbeat-ttl": "3s", "service-port": "80"})
			pod.Spec.Containers = []corev1.Container{withPreStop(test.hook)}
			pod.Spec.TerminationGracePeriodSeconds = test.grace
			_, warnings := mustParse(t, pod, nil)
			if test.want == "" {
				wantWarnings(t, warnings)
			} else {
				wantWarnings(t, warnings, test.want)
			}
		})
	}
}
