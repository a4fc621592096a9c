package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// fakeAPI is an API server that has only pods and a namespace, and remembers its requests.
type fakeAPI struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour))},
		Spec: corev1.PodSpec{
			NodeName: "node1", Containers: []corev1.Container{{Name: contract.ContainerName}},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: contract.Condition, Status: corev1.ConditionFalse, Reason: string(contract.ContainersNotReady),
		}}},
	}
	plain := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "plain"}}
	answers := map[string]any{
		"/version":                            map[string]string{"gitVersion": "v1.37.0"},
		"/api/v1/namespaces":                  corev1.NamespaceList{Items: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}},
		"/api/v1/pods":                        corev1.PodList{Items: []corev1.Pod{pod, plain}},
		"/api/v1/namespaces/shop/pods":        corev1.PodList{Items: []corev1.Pod{pod, plain}},
		"/api/v1/namespaces/shop/pods/web-0":  pod,
		"/api/v1/namespaces/shop/pods/plain":  plain,
		"/api/v1/namespaces/empty/pods":       corev1.PodList{},
		"/api/v1/namespaces/shop/pods/absent": nil,
	}
	api := &fakeAPI{}
	api.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // tokens are sent by TLS alone
		api.mu.Lock()
		api.requests = append(api.requests, r)
		api.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer := answers[r.URL.Path]
		if answer == nil {
			w.WriteHeader(http.StatusNotFound)
			answer = metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound, Message: "not found"}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(api.Close)
	return api
}

// kubeconfig has two contexts, clusters and users; those that are current reach nobody.
func (api *fakeAPI) kubeconfig(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
		"contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}},
			{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "shop"}}],
		"users": [{"name": "nobody", "user": {}}, {"name": "me", "user": {"token": "mine"}}],
		"clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}, {"name": "here", "cluster": {"server": %q, "certificate-authority-data": %q}}]}`,
		api.URL, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKubectlsFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args         []string
		header, want string
		path         string
	}{
		"--context":              {args: []string{"--context=here"}, header: "Authorization", want: "Bearer mine", path: "/api/v1/namespaces/shop/pods"},
		"--cluster":              {args: []string{"--cluster=here", "-n", "empty"}, header: "Authorization", path: "/api/v1/namespaces/empty/pods"},
		"--cluster and --user":   {args: []string{"--cluster=here", "--user=me", "-A"}, header: "Authorization", want: "Bearer mine", path: "/api/v1/pods"},
		"--as":                   {args: []string{"--context=here", "--as=jane"}, header: "Impersonate-User", want: "jane"},
		"--as-group":             {args: []string{"--context=here", "--as=jane", "--as-group=ops"}, header: "Impersonate-Group", want: "ops"},
		"--as-uid":               {args: []string{"--context=here", "--as=jane", "--as-uid=7"}, header: "Impersonate-Uid", want: "7"},
		"--token":                {args: []string{"--context=here", "--token=other"}, header: "Authorization", want: "Bearer other"},
		"a namespace, in full":   {args: []string{"--context=here", "-n", "ns/empty"}, path: "/api/v1/namespaces/empty/pods"},
		"--request-timeout":      {args: []string{"--context=here", "--request-timeout=7s"}},
		"--request-timeout none": {args: []string{"--context=here", "--request-timeout=0"}},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			_, _, err := call(t, "", append([]string{"status", "--kubeconfig=" + api.kubeconfig(t)}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			first := api.requests[0]
			if test.header != "" && first.Header.Get(test.header) != test.want {
				t.Errorf("%s: %q, want %q", test.header, first.Header.Get(test.header), test.want)
			}
			if test.path != "" && first.URL.Path != test.path {
				t.Errorf("%s was asked", first.URL.Path)
			}
		})
	}
}

func TestTheRequestTimeoutHolds(t *testing.T) {
	api := newFakeAPI(t)
	for given, want := range map[string]time.Duration{"": time.Minute, "0": 0, "7s": 7 * time.Second, "3": 3 * time.Second} {
		kube, flags := newKube(), pflag.NewFlagSet("check", pflag.ContinueOnError)
		kube.addFlags(flags)
		args := []string{"--context=here", "--kubeconfig=" + api.kubeconfig(t)}
		if given != "" {
			args = append(args, "--request-timeout="+given)
		}
		if err := flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		if config, err := kube.restConfig(); err != nil || config.Timeout != want {
			t.Errorf("%q: %v, %v", given, config, err)
		}
	}
}

// TestFlagsHoldInAPod: what client-go makes there of the pod's token has nothing of these flags.
func TestFlagsHoldInAPod(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		from rest.ImpersonationConfig
		want string
	}{
		"none":            {nil, rest.ImpersonationConfig{}, "1m0s   []"},
		"all":             {[]string{"--as=jane", "--as-uid=7", "--as-group=ops", "--request-timeout=3"}, rest.ImpersonationConfig{}, "3s jane 7 [ops]"},
		"of a kubeconfig": {nil, rest.ImpersonationConfig{UserName: "joe", UID: "1", Groups: []string{"dev"}}, "1m0s joe 1 [dev]"},
		"over it":         {[]string{"--as=jane"}, rest.ImpersonationConfig{UserName: "joe"}, "1m0s jane  []"},
	} {
		kube, flags := newKube(), pflag.NewFlagSet("check", pflag.ContinueOnError)
		kube.addFlags(flags)
		if err := flags.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		config := &rest.Config{Impersonate: test.from}
		err := kube.overrule(config)
		as := config.Impersonate
		if got := fmt.Sprintf("%s %s %s %s", config.Timeout, as.UserName, as.UID, as.Groups); err != nil || got != test.want {
			t.Errorf("%s: %q, want %q, %v", name, got, test.want, err)
		}
	}
}

// TestExitCodes holds that a script can tell what is wrong from what could not be looked at.
func TestExitCodes(t *testing.T) {
	api := newFakeAPI(t)
	here := []string{"--kubeconfig=" + api.kubeconfig(t), "--context=here"}
	nowhere := []string{"--kubeconfig=" + api.kubeconfig(t)}
	for name, test := range map[string]struct {
		args []string
		want int
	}{
		"explain":                      {[]string{"explain", "testdata/shop.yaml"}, 0},
		"explain, warnings":            {[]string{"explain", "testdata/slips.yaml"}, 0},
		"explain, warnings, strict":    {[]string{"explain", "testdata/slips.yaml", "--strict"}, 1},
		"explain, nothing, strict":     {[]string{"explain", "testdata/nothing.yaml", "--strict"}, 0},
		"explain, errors":              {[]string{"explain", "testdata/errors.yaml"}, 1},
		"explain, errors in JSON":      {[]string{"explain", "testdata/errors.yaml", "-o", "json"}, 1},
		"explain, no file":             {[]string{"explain", "testdata/absent.yaml"}, 2},
		"explain, no cluster":          {append([]string{"explain", "testdata/shop.yaml", "--from-cluster"}, nowhere...), 2},
		"explain, no installation":     {append([]string{"explain", "testdata/shop.yaml", "--from-cluster"}, here...), 2},
		"inject":                       {[]string{"inject", "testdata/shop.yaml"}, 0},
		"inject, errors":               {[]string{"inject", "testdata/errors.yaml"}, 1},
		"inject, no file":              {[]string{"inject", "testdata/absent.yaml"}, 2},
		"inject, a wrong flag":         {[]string{"inject", "--bogus"}, 2},
		"check, a broken installation": {append([]string{"check"}, here...), 1},
		"check, no cluster":            {append([]string{"check"}, nowhere...), 2},
		"check, no cluster, JSON":      {append([]string{"check", "-o", "json", "-q"}, nowhere...), 2},
		"check, a wrong format":        {append([]string{"check", "-o", "name"}, here...), 2},
		"status":                       {append([]string{"status"}, here...), 0},
		"status, no pod":               {append([]string{"status", "-n", "empty"}, here...), 0},
		"status, a name":               {append([]string{"status", "pod/web-0"}, here...), 0},
		"status, an absent name":       {append([]string{"status", "web-0", "absent"}, here...), 1},
		"status, no agentlet":          {append([]string{"status", "plain"}, here...), 1},
		"status, no cluster":           {append([]string{"status"}, nowhere...), 2},
		"status, not a pod":            {append([]string{"status", "deployment/web"}, here...), 2},
		"status, names and -A":         {append([]string{"status", "web-0", "-A"}, here...), 2},
		"status, names and labels":     {append([]string{"status", "web-0", "-l", "app=web"}, here...), 2},
		"status, a wrong timeout":      {append([]string{"status", "--request-timeout=soon"}, here...), 2},
		"status, a negative timeout":   {append([]string{"status", "--request-timeout=-1s"}, here...), 2},
		"status, wrong labels":         {append([]string{"status", "-l", "app in"}, here...), 2},
		"completion":                   {[]string{"completion", "--kubectl"}, 0},
		"completion of nothing":        {[]string{"completion", "tcsh"}, 2},
		"options":                      {[]string{"options"}, 0},
		"help":                         {nil, 0},
		"an unknown command":           {[]string{"chekc"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := call(t, "", test.args...)
			if got := exitCode(err); got != test.want {
				t.Errorf("%d, want %d: %v\n%s%s", got, test.want, err, stdout, stderr)
			}
		})
	}
}

func TestStatusForms(t *testing.T) {
	api := newFakeAPI(t)
	for name, test := range map[string]struct {
		args           []string
		stdout, stderr string // parts; empty for nothing
	}{
		"table":        {[]string{"-n", "shop"}, "POD    GATE    SINCE  REASON", ""},
		"next step":    {nil, "→ web-0: ", ""},
		"wide":         {[]string{"-o", "wide"}, "OPENED  NODE ", ""},
		"name":         {[]string{"-o", "name"}, "pod/web-0\n", ""},
		"yaml":         {[]string{"-o", "yaml"}, "apiVersion: cli.agentlet.dev/v1\nkind: Status\nitems:\n  - namespace: shop\n", ""},
		"json":         {[]string{"-o", "json"}, `"kind": "Status"`, ""},
		"no pod":       {[]string{"-n", "empty"}, "", "No pod in this namespace"},
		"no pod, -q":   {[]string{"-n", "empty", "-q"}, "", ""},
		"no pod, JSON": {[]string{"-n", "empty", "-o", "json"}, `"items": []`, "No pod"},
		"quiet":        {[]string{"-q"}, "web-0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"status", "--context=here", "--kubeconfig=" + api.kubeconfig(t)}, test.args...)
			stdout, stderr, err := call(t, "", args...)
			if err != nil || !says(stdout, test.stdout) || !says(stderr, test.stderr) {
				t.Errorf("%v\n%s\n%s", err, stdout, stderr)
			}
		})
	}
}

// says reports whether a text has a part, or nothing if there is none.
func says(text, part string) bool { return strings.Contains(text, part) && (part != "" || text == "") }

func TestCheckForms(t *testing.T) {
	api := newFakeAPI(t)
	args := []string{"check", "--context=here", "--kubeconfig=" + api.kubeconfig(t)}
	stdout, _, _ := call(t, "", append(args, "-o", "json")...)
	var report struct {
		APIVersion, Kind, Result string
		Findings                 []struct{ Level string }
	}
	err := json.Unmarshal([]byte(stdout), &report)
	if err != nil || report.APIVersion != "cli.agentlet.dev/v1" || report.Kind != "Check" || report.Result != "fail" || report.Findings[0].Level != "ok" {
		t.Errorf("%v\n%s", err, stdout)
	}
	stdout, _, _ = call(t, "", append(args, "-o", "yaml")...)
	if !strings.HasPrefix(stdout, "apiVersion: cli.agentlet.dev/v1\nkind: Check\nresult: fail\nfindings:\n") {
		t.Error(stdout)
	}
	stdout, _, _ = call(t, "", append(args, "-q")...)
	if !strings.HasPrefix(stdout, "fail") || strings.Contains(stdout, "\nok ") || strings.Contains(stdout, "\nskip ") || strings.Contains(stdout, "0 ok") {
		t.Error(stdout)
	}
}

// TestURLsAndArguments: -f, arguments and addresses name the same manifests.
func TestURLsAndArguments(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.Dir("testdata")))
	defer server.Close()
	want, _, err := call(t, "", "inject", "-f", "testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"testdata/shop.yaml"}, {server.URL + "/shop.yaml"}, {"-f", server.URL + "/shop.yaml"}} {
		if got, _, err := call(t, "", append([]string{"inject"}, args...)...); err != nil || got != want {
			t.Errorf("%q: %v\n%s", args, err, got)
		}
	}
}

// TestKustomizeIsKubectls takes a script for kubectl: the real one is run by the docs' commands.
func TestKustomizeIsKubectls(t *testing.T) {
	folder := t.TempDir()
	file, err := filepath.Abs("testdata/errors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte("#!/bin/sh\ncat "+file+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":/bin:/usr/bin")
	stdout, _, err := call(t, "", "explain", "-k", "overlays/prod")
	if exitCode(err) != 1 || !strings.Contains(stdout, "overlays/prod (kustomize):") {
		t.Errorf("%v\n%s", err, stdout)
	}
	stdout, _, err = call(t, "", "explain", "-k", "overlays/prod", "-o", "sarif")
	if exitCode(err) != 1 || !strings.Contains(stdout, `"uri": "overlays/prod/kustomization.yaml"`) || strings.Contains(stdout, "startLine") {
		t.Errorf("%v\n%s", err, stdout)
	}
}

// TestSecretsOfAddressesAreNotPrinted gives addresses with a user, a password and a query, each of which may be a token.
func TestSecretsOfAddressesAreNotPrinted(t *testing.T) {
	file, err := filepath.Abs("testdata/errors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const renders = `cat "$FILE"`
	const fails = `echo "error: lstat /here/$3: not found; git fetch '$3' origin, https:/SECRETU:SECRETP@host/x; SECRETP, SECRETQ" >&2; exit 1`
	server := httptest.NewServer(http.FileServer(http.Dir("testdata")))
	defer server.Close()
	at := func(user, path string) string {
		return strings.Replace(server.URL, "://", "://"+user+"@", 1) + path + "?token=SECRETQ"
	}
	for name, test := range map[string]struct {
		script, flag, address, want string
	}{
		"-k":                     {renders, "-k", "https://SECRETU:SECRETP@git.example/shop?token=SECRETQ", "https://git.example/shop"},
		"-k, a user":             {renders, "-k", "https://SECRETU@git.example/shop?token=SECRETQ", "https://git.example/shop"},
		"-k, git":                {renders, "-k", "git::https://SECRETU:SECRETP@git.example/shop?ref=v1&token=SECRETQ", "git::https://git.example/shop"},
		"-k, an error":           {fails, "-k", "https://SECRETU:SECRETP@git.example/shop?token=SECRETQ", "https://git.example/shop"},
		"-k, an error, git":      {fails, "-k", "git::https://SECRETP:SECRETU@git.example/shop?token=SECRETQ", "git::https://git.example/shop"},
		"-f":                     {"", "-f", at("SECRETU:SECRETP", "/errors.yaml"), server.URL + "/errors.yaml"},
		"-f, a user":             {"", "-f", at("SECRETU", "/errors.yaml"), server.URL + "/errors.yaml"},
		"-f, absent":             {"", "-f", at("SECRETU", "/absent.yaml"), server.URL + "/absent.yaml: the server answered 404"},
		"-f, another way to ask": {"", "-f", "git::https://SECRETU:SECRETP@git.example/shop?token=SECRETQ", "git::https://git.example/shop"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte("#!/bin/sh\n"+test.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", folder+":/bin:/usr/bin")
			t.Setenv("FILE", file)
			for _, args := range [][]string{{"explain"}, {"explain", "-q"}, {"explain", "-o", "json"}, {"explain", "-o", "sarif"}, {"inject"}} {
				stdout, stderr, err := call(t, "", append(args, test.flag, test.address)...)
				all := stdout + stderr
				if err != nil {
					all += err.Error()
				}
				if !strings.Contains(all, test.want) || strings.Contains(all, "SECRET") {
					t.Errorf("%q: want %s and no secret, got %s", args, test.want, all)
				}
			}
		})
	}
}

func TestHelpIsGrouped(t *testing.T) {
	for _, name := range []string{"explain", "inject"} {
		help, _, err := call(t, "", name, "--help")
		own, installation, found := strings.Cut(help, "Flags of the installation")
		if err != nil || !found || strings.Count(help, "--consul-port") != 1 {
			t.Fatalf("%v\n%s", err, help)
		}
		for flag, in := range map[string]string{
			"--filename": own, "--kustomize": own, "--quiet": own, "--help": own, "--from-cluster": installation, "--consul-port": installation, "--image-pull-policy": installation,
		} {
			if !strings.Contains(in, flag) {
				t.Errorf("%s: %s is in the other group:\n%s", name, flag, help)
			}
		}
		if strings.Contains(help, "--kubeconfig") || !strings.Contains(help, `"kubectl agentlet options"`) {
			t.Errorf("kubectl's own flags are listed:\n%s", help)
		}
	}
	options, _, err := call(t, "", "options")
	for _, flag := range []string{"--as ", "--as-group", "--cluster", "--context", "--kubeconfig", "-n, --namespace", "--request-timeout", "-s, --server", "--token", "--user"} {
		if err != nil || !strings.Contains(options, flag) {
			t.Errorf("%v: no %s in\n%s", err, flag, options)
		}
	}
	root, _, err := call(t, "", "--help")
	if err != nil || strings.Contains(root, "--kubeconfig") || !strings.Contains(root, `"kubectl agentlet options"`) {
		t.Errorf("%v\n%s", err, root)
	}
}

func TestCompletions(t *testing.T) {
	api := newFakeAPI(t)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"pods":              {[]string{"status", "--context=here", ""}, "web-0"},
		"pods, named":       {[]string{"status", "--context=here", "web-0", ""}, ""},
		"contexts":          {[]string{"check", "--context", ""}, "here nowhere"},
		"clusters":          {[]string{"check", "--cluster", ""}, "here nowhere"},
		"users":             {[]string{"check", "--user", ""}, "me nobody"},
		"files":             {[]string{"explain", ""}, "yaml yml json"},
		"output of check":   {[]string{"check", "-o", ""}, "json yaml"},
		"output of explain": {[]string{"explain", "-o", ""}, "json yaml sarif"},
		"output of status":  {[]string{"status", "-o", ""}, "wide json yaml name"},
	} {
		t.Run(name, func(t *testing.T) {
			args := slices.Insert(test.args, 1, "--kubeconfig="+api.kubeconfig(t))
			out, _, err := call(t, "", append([]string{"__complete"}, args...)...)
			words, _, _ := strings.Cut(out, ":")
			if err != nil || strings.Join(strings.Fields(words), " ") != test.want {
				t.Errorf("%v, %q", err, out)
			}
		})
	}
}

// TestKubectlCompletion runs the script as kubectl does, with a plugin that prints what it is asked.
func TestKubectlCompletion(t *testing.T) {
	script, _, err := call(t, "", "completion", "--kubectl")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, text := range map[string]string{"kubectl_complete-agentlet": script, "kubectl": "#!/bin/sh\nprintf '<%s>' \"$@\"\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", folder+":/bin:/usr/bin")
	out, err := exec.CommandContext(t.Context(), "kubectl_complete-agentlet", "status", "-n", "").CombinedOutput()
	if err != nil || string(out) != "<agentlet><__complete><status><-n><>" {
		t.Errorf("%v, %q", err, out)
	}
	if help, _, err := call(t, "", "completion"); err != nil || !strings.Contains(help, "--kubectl") {
		t.Errorf("%v\n%s", err, help)
	}
}
