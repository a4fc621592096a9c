package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/golden"
)

// agentlets are statuses by the pod's name.
type agentlets map[string]*contract.Status

func (a agentlets) Status(_ context.Context, pod *corev1.Pod) (*contract.Status, error) {
	if s := a[pod.Name]; s != nil {
		return s, nil
	}
	if pod.Name == "started" {
		return nil, apiproxy.ErrStarting
	}
	return nil, errors.New("no answer")
}

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// pod returns a pod whose gate opened 7 s after its start, or is closed for a reason.
func pod(namespace, name string, ready bool, closed contract.Reason) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: "node1", InitContainers: []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
		},
		Status: corev1.PodStatus{StartTime: &metav1.Time{Time: start}},
	}
	gate := corev1.PodCondition{
		Type: contract.Condition, Status: corev1.ConditionTrue, Reason: string(contract.Registered),
		LastTransitionTime: metav1.Time{Time: start.Add(7 * time.Second)},
	}
	if closed != "" {
		gate.Status, gate.Reason = corev1.ConditionFalse, string(closed)
	}
	p.Status.Conditions = []corev1.PodCondition{gate}
	if ready {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	}
	return p
}

func service(agent string, readiness, catalog contract.Health) contract.ServiceStatus {
	return contract.ServiceStatus{Name: "web", Address: "10.244.1.7", Port: 8080, Agent: agent, Readiness: readiness, Catalog: catalog}
}

// of returns a status that has just read the catalog.
func of(services ...contract.ServiceStatus) *contract.Status { return readAt(now, services...) }

// now is an hour after the pods' start.
var now = start.Add(time.Hour)

func readAt(at time.Time, services ...contract.ServiceStatus) *contract.Status {
	status := &contract.Status{Phase: "running", Services: services, Gate: contract.GateStatus{Reason: contract.Starting}, CatalogReadAt: &at}
	if at.IsZero() {
		status.CatalogReadAt = nil
	}
	return status
}

func TestDrift(t *testing.T) {
	draining := of(service("present", "critical", "passing"))
	draining.Phase = "draining"
	drained := of(service("absent", "", ""))
	drained.Phase = "drained"
	failing := of(service("present", "passing", "passing"))
	failing.Failing = map[string]string{"gate": "forbidden", "consul": "refused"}
	mistaken := of(service("present", "passing", "passing"))
	mistaken.Errors = "gate"
	maintained := of(service("present", "critical", "critical"))
	maintained.Maintenance = contract.MaintenanceOutput + "compaction"
	for name, test := range map[string]struct {
		ready  bool
		status *contract.Status
		want   string
	}{
		"none":                  {true, of(service("present", "passing", "passing")), ""},
		"starting":              {false, of(service("absent", "", "")), ""},
		"registered, not ready": {false, of(service("present", "critical", "critical")), ""},
		"the kubelet is behind": {false, of(service("present", "passing", "passing")), ""},
		"a fixed health":        {true, of(service("present", "warning", "warning")), ""},
		"lost":                  {true, of(service("absent", "", "")), "ready, but not in Consul"},
		"critical":              {true, of(service("present", "passing", "critical")), "ready, but critical in Consul"},
		"Consul is behind":      {false, of(service("present", "critical", "passing")), "not ready, but passing in Consul"},
		"never read":            {true, readAt(time.Time{}, service("present", "passing", "")), "the catalog was not read yet"},
		"not heard":             {true, of(service("unknown", "", "")), "Consul is not heard"},
		"ending":                {true, draining, "ending, still in Consul"},
		"ended":                 {true, drained, ""},
		"trying again":          {true, failing, "consul: refused; gate: forbidden"},
		"in maintenance":        {true, maintained, "by the application's own word in maintenance: compaction"},
		"errors in annotation":  {true, mistaken, "errors in changed annotations: gate"},
	} {
		if got := drift(pod("shop", "web", test.ready, ""), test.status, &test.status.Services[0]); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// waits returns a pod whose agentlet is waiting to run.
func waits(name, reason string) *corev1.Pod {
	p := pod("shop", name, false, contract.Starting)
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: contract.ContainerName, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "be\ncause"}},
	}}
	return p
}

// config returns a Config with the fixed time now.
func config(kube kubernetes.Interface, cluster Cluster, namespace string) Config {
	return Config{
		Kube: kube, Cluster: cluster, Namespace: namespace, Timeout: time.Minute,
		Now: func() time.Time { return now },
	}
}

func TestReadAndWrite(t *testing.T) {
	plain := pod("shop", "plain", true, "")
	plain.Spec.InitContainers = nil
	off := pod("bank", "off", true, "")
	off.Spec.ReadinessGates = nil
	done := pod("shop", "done", false, contract.Draining)
	done.Status.Phase = corev1.PodSucceeded
	unwritten := pod("shop", "unwritten", false, "")
	unwritten.Status.Conditions = nil
	admin := service("present", "passing", "")
	admin.Name, admin.Port = "web-admin", 9090
	worker := service("present", "passing", "passing")
	worker.Name, worker.Port = "worker", 0
	timeless := pod("shop", "timeless", true, "")
	timeless.Status.Conditions[0].LastTransitionTime = metav1.Time{}
	before := pod("shop", "opened-before-it-was", true, "")
	before.Status.Conditions[0].LastTransitionTime = metav1.Time{Time: start.Add(-time.Hour)}
	kube := fake.NewClientset(plain, off, done, unwritten, timeless, before,
		waits("crashes", "CrashLoopBackOff"), waits("created", "ContainerCreating"), waits("pulls", "ImagePullBackOff"),
		pod("shop", "forged", false, "No\nweb   open  Registered\x1b[2J"), pod("shop", "started", false, contract.Starting),
		pod("shop", "old", true, ""), pod("shop", "undated", true, ""), pod("shop", "unread", true, ""), pod("shop", "web", true, ""),
		pod("shop", "closed", false, contract.ContainersNotReady), pod("shop", "mute", true, ""))
	forged := service("present", "passing", "pass\ring")
	forged.Name, forged.Address = strings.Repeat("web\u202e", 100), "\u2028"
	known := agentlets{
		"web":       of(service("present", "passing", "passing"), admin, worker),
		"closed":    of(service("absent", "", "")),
		"off":       of(service("present", "passing", "passing")),
		"unwritten": of(),
		"old":       readAt(now.Add(-3*time.Minute), service("present", "passing", "passing")),
		"undated":   readAt(time.Time{}, service("present", "passing", "passing")),
		"unread":    readAt(time.Time{}, service("present", "passing", "")),
		"timeless":  of(service("present", "passing", "passing")),
		"forged":    of(forged),

		"opened-before-it-was": of(service("present", "passing", "passing")),
	}
	var out bytes.Buffer
	for _, namespace := range []string{"", "bank"} {
		rows, _, err := Read(t.Context(), config(kube, known, namespace))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []Form{{}, {Wide: true}} {
			form.Namespaces = namespace == ""
			Write(printer.New(&out, false), rows, form)
			out.WriteString("\n")
		}
		if namespace == "" {
			WriteNames(printer.New(&out, false), rows)
			out.WriteString("\n")
			Write(printer.New(&out, false), Wrong(rows), Form{Namespaces: true})
			out.WriteString("\n")
		}
	}
	golden.Check(t, "testdata/table.txt", out.String())
}

// TestUnserved holds that a pod which is not registered on purpose is not shown as one that drifts, unless it can't be taken out.
func TestUnserved(t *testing.T) {
	for _, reason := range []contract.Reason{contract.OptedOut, contract.CopiedPod} {
		status := of()
		status.Gate.Reason = reason
		stuck := *status
		stuck.Failing = map[string]string{"registration web": "500"}
		rows, _, err := Read(t.Context(), config(fake.NewClientset(pod("shop", "a", true, ""), pod("shop", "b", true, "")), agentlets{"a": status, "b": &stuck}, ""))
		if err != nil || len(rows) != 2 || rows[0].Reason != reason || rows[0].Drift != "" || rows[1].Drift != "registration web: 500" {
			t.Errorf("%s: %+v, %v", reason, rows, err)
		}
	}
}

func TestSame(t *testing.T) {
	row := Row{Pod: "web", Consul: "passing", CatalogAge: "1s", CatalogReadAt: new(now), OpenedSeconds: new(int64(7))}
	for name, test := range map[string]struct {
		change func(r *Row)
		want   bool
	}{
		"itself":  {func(r *Row) { r.OpenedSeconds = new(int64(7)) }, true},
		"older":   {func(r *Row) { r.age = time.Hour }, true},
		"read":    {func(r *Row) { r.CatalogAge, r.CatalogReadAt = "0s", new(now.Add(time.Second)) }, true},
		"stale":   {func(r *Row) { r.stale = true }, false},
		"another": {func(r *Row) { r.Consul = "critical" }, false},
	} {
		other := row
		test.change(&other)
		if got := Same([]Row{row}, []Row{other}); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if Same([]Row{row}, nil) {
		t.Error("a row is the same as none")
	}
}

func TestAge(t *testing.T) {
	for name, test := range map[string]struct {
		at    *time.Time
		want  string
		stale bool
	}{
		"fresh":                {new(now.Add(-10 * time.Second)), "10s", false},
		"old":                  {new(now.Add(-11 * time.Second)), "11s", true},
		"very old":             {new(now.Add(-26 * time.Hour)), "26h0m0s", true},
		"of a clock ahead":     {new(now.Add(5 * time.Second)), "0s", false},
		"of a clock far ahead": {new(now.Add(time.Hour)), "unknown", true},
		"of no time":           {new(time.Time{}), "unknown", true},
		"not said":             {nil, "unknown", true},
	} {
		if got, stale := age(test.at, now); got != test.want || stale != test.stale {
			t.Errorf("%s: %s, %v", name, got, stale)
		}
	}
}

func TestAgeInJSON(t *testing.T) {
	kube := fake.NewClientset(pod("shop", "web", true, ""))
	for name, test := range map[string]struct {
		status *contract.Status
		want   string
	}{
		"fresh":   {of(service("present", "passing", "passing")), "passing, 0s, 2030-01-01T01:00:00Z"},
		"old":     {readAt(now.Add(-time.Minute), service("present", "passing", "passing")), "passing, 1m0s, 2030-01-01T00:59:00Z"},
		"undated": {readAt(time.Time{}, service("present", "passing", "passing")), "passing, unknown, "},
		"unread":  {readAt(time.Time{}, service("present", "passing", "")), ", , "},
	} {
		rows, _, err := Read(t.Context(), config(kube, agentlets{"web": test.status}, "shop"))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		var back struct {
			Items []struct{ Consul, CatalogAge, CatalogReadAt string }
		}
		if err := printer.JSON(&out, NewReport(rows)); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back.Items) != 1 {
			t.Fatalf("%s, %v", out.String(), err)
		}
		if got := fmt.Sprintf("%s, %s, %s", back.Items[0].Consul, back.Items[0].CatalogAge, back.Items[0].CatalogReadAt); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestReportIsVersioned(t *testing.T) {
	for _, rows := range [][]Row{nil, {{Pod: "web", Gate: "open"}}} {
		var out bytes.Buffer
		var back struct {
			APIVersion, Kind string
			Items            []Row
		}
		if err := printer.JSON(&out, NewReport(rows)); err != nil {
			t.Fatal(err)
		}
		err := json.Unmarshal(out.Bytes(), &back)
		if err != nil || back.APIVersion != "cli.agentlet.dev/v1" || back.Kind != "Status" || back.Items == nil || len(back.Items) != len(rows) {
			t.Errorf("%s: %v", out.String(), err)
		}
	}
}

func TestNamesAndSelector(t *testing.T) {
	labelled := pod("shop", "labelled", true, "")
	labelled.Labels = map[string]string{"app": "web"}
	plain := pod("shop", "plain", true, "")
	plain.Spec.InitContainers = nil
	kube := fake.NewClientset(labelled, plain, pod("shop", "web", true, ""))
	for name, test := range map[string]struct {
		names         []string
		selector      string
		want, missing string
	}{
		"all":         {want: "labelled web"},
		"labels":      {selector: "app=web", want: "labelled"},
		"a name":      {names: []string{"web"}, want: "web"},
		"two names":   {names: []string{"web", "labelled"}, want: "labelled web"},
		"no agentlet": {names: []string{"plain", "web"}, want: "web", missing: "pod plain has no agentlet"},
		"absent":      {names: []string{"absent"}, missing: `pods "absent" not found`},
	} {
		of := config(kube, agentlets{}, "shop")
		of.Names, of.Selector = test.names, test.selector
		rows, missing, err := Read(t.Context(), of)
		if err != nil {
			t.Fatal(name, err)
		}
		got := make([]string, len(rows))
		for i := range rows {
			got[i] = rows[i].Pod
		}
		if strings.Join(got, " ") != test.want || !strings.Contains(strings.Join(missing, "; "), test.missing) || len(missing) > 1 {
			t.Errorf("%s: %q, missing %q", name, got, missing)
		}
	}
}

func TestNextStep(t *testing.T) {
	ok := service("present", "passing", "passing")
	for name, test := range map[string]struct {
		pod    *corev1.Pod
		status *contract.Status
		want   string
	}{
		"all is well":     {pod("shop", "web", true, ""), of(ok), ""},
		"not ready":       {pod("shop", "web", false, contract.ContainersNotReady), of(ok), "kubectl -n shop describe pod web"},
		"no Consul":       {pod("shop", "web", false, contract.ConsulUnreachable), of(ok), "a Consul agent answers"},
		"draining":        {pod("shop", "web", false, contract.Draining), of(ok), ""},
		"lost":            {pod("shop", "web", true, ""), of(service("present", "passing", "")), "who took the instance out"},
		"not heard":       {pod("shop", "web", true, ""), of(service("unknown", "", "")), "a Consul agent answers"},
		"wrong":           {pod("shop", "web", true, ""), &contract.Status{Errors: "gate", CatalogReadAt: &now, Services: []contract.ServiceStatus{ok}}, "correct the annotations"},
		"in maintenance":  {pod("shop", "web", true, ""), &contract.Status{Maintenance: "x", CatalogReadAt: &now, Services: []contract.ServiceStatus{ok}}, ""},
		"tries again":     {pod("shop", "web", true, ""), &contract.Status{Failing: map[string]string{"a": "b"}, CatalogReadAt: &now, Services: []contract.ServiceStatus{ok}}, "logs web -c agentlet"},
		"does not answer": {pod("shop", "web", true, ""), nil, "logs web -c agentlet"},
	} {
		rows, _, err := Read(t.Context(), config(fake.NewClientset(test.pod), agentlets{"web": test.status}, "shop"))
		if err != nil || len(rows) != 1 {
			t.Fatal(name, err, rows)
		}
		if got := rows[0].NextStep; !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestNextStepsAreSaidOnce: a Deployment's pods have the same to be done.
func TestNextStepsAreSaidOnce(t *testing.T) {
	var rows []Row
	for _, name := range []string{"web-0", "web-1", "web-1", "web-10"} {
		rows = append(rows, Row{Namespace: "shop", Pod: name, NextStep: "kubectl -n shop describe pod " + name})
	}
	rows = append(rows, Row{Namespace: "bank", Pod: "web-0", NextStep: "kubectl -n bank logs web-0 -c agentlet"})
	want := "shop/web-0 and 2 other pods: kubectl -n shop describe pod web-0|bank/web-0: kubectl -n bank logs web-0 -c agentlet"
	if got := strings.Join(nextSteps(rows, true), "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// mute is a Cluster whose agentlets never answer.
type mute struct{}

func (mute) Status(ctx context.Context, _ *corev1.Pod) (*contract.Status, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTheTimeIsOver(t *testing.T) {
	var pods []runtime.Object
	for i := range 3 * parallel {
		pods = append(pods, pod("shop", fmt.Sprintf("web-%d", i), true, ""))
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		rows, _, err := Read(t.Context(), config(fake.NewClientset(pods...), mute{}, "shop"))
		if err != nil || len(rows) != len(pods) || time.Since(began) > time.Minute {
			t.Fatalf("%d rows, %v, after %s", len(rows), err, time.Since(began))
		}
		for _, row := range rows {
			if row.Gate != "open" || row.Drift != "unknown: not asked within 1m0s" {
				t.Errorf("%+v", row)
			}
		}
	})
}
