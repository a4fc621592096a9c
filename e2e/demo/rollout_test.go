package demo

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
)

func TestDeployment(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join("..", "..", workload))
	if err != nil {
		t.Fatal(err)
	}
	withoutAgentlet, withAgentlet := kinds()
	for name, test := range map[string]struct {
		kind       kind
		annotated  bool
		containers []string
	}{
		"by hand":       {withoutAgentlet, false, []string{"web", "register"}},
		"with Agentlet": {withAgentlet, true, []string{"web"}},
	} {
		t.Run(name, func(t *testing.T) {
			deployment, err := test.kind.deployment(manifest)
			if err != nil {
				t.Fatal(err)
			}
			template := deployment.Spec.Template
			names := []string{}
			for _, c := range template.Spec.Containers {
				names = append(names, c.Name)
				if c.Lifecycle != nil || c.Image != template.Spec.Containers[0].Image {
					t.Errorf("container %s has a hook, or another image: %+v", c.Name, c)
				}
			}
			if !slices.Equal(names, test.containers) {
				t.Errorf("containers %q, want %q", names, test.containers)
			}
			if _, annotated := template.Annotations[contract.ServiceNames]; annotated != test.annotated {
				t.Errorf("annotations %v", template.Annotations)
			}
			labels := []string{deployment.Name, template.Labels["app"], deployment.Spec.Selector.MatchLabels["app"]}
			if want := test.kind.service; labels[0] != want || labels[1] != want || labels[2] != want {
				t.Errorf("name and labels %q, want %q", labels, want)
			}
		})
	}
	if _, err := withAgentlet.deployment([]byte("metadata: {name: other}")); err == nil {
		t.Error("another Deployment is no error")
	}
}

// restarted returns a rollout whose only pod is replaced by another.
func restarted() *rollout {
	_, k := kinds()
	s, _ := testScreen(80, 24)
	r := newRollout(k, s)
	r.load = load.Fixed("192.0.2.1:80")
	r.began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r.first["old"] = true
	for uid, stations := range map[string]map[observe.Station]int{
		"old": {observe.Admitted: -9000, observe.Deleted: 2000, observe.OutOfCatalog: 2014, observe.Terminated: 7031, observe.Gone: 8120},
		"new": {
			observe.Admitted: 5, observe.ContainersReady: 1200, observe.Registered: 1216, observe.InCatalog: 1213, observe.GateOpen: 1230,
			observe.Ready: 1990,
		},
	} {
		for station, ms := range stations {
			r.timeline.Pass(uid, station, r.began.Add(time.Duration(ms)*time.Millisecond))
		}
	}
	return r
}

func TestMeasured(t *testing.T) {
	r := restarted()
	r.failed = []time.Time{r.began.Add(20 * time.Millisecond), r.began.Add(3 * time.Millisecond)}
	got := r.measured()
	if !slices.Equal(got.Failed, []int{3, 20}) {
		t.Errorf("failed at %v, want them sorted", got.Failed)
	}
	if len(got.Old) != 1 || got.Old[0].At["SIGTERM"] != 7031 || got.Old[0].At["admitted"] != -9000 {
		t.Errorf("old pods: %+v", got.Old)
	}
	if len(got.New) != 1 || got.New[0].At["Ready"] != 1990 || got.New[0].At["registered"] != 1213 {
		t.Errorf("new pods: %+v, want them in a possible order", got.New)
	}
}

func TestBlockShowsBothGenerations(t *testing.T) {
	r := restarted()
	text := strings.Join(r.block(80), "\n")
	for _, want := range []string{"failed: 0  of 0 requests  pods replaced: 1 of 3", "1985", "5031"} {
		if !strings.Contains(text, want) {
			t.Errorf("the block lacks %q:\n%s", want, text)
		}
	}
}

func TestNotesSayWhatTheTimeWentInto(t *testing.T) {
	lives := []observe.Life{
		life("a", "", map[observe.Station]int{observe.Deleted: 0, observe.OutOfCatalog: 14, observe.Terminated: 5031}),
		life("b", "", map[observe.Station]int{observe.Deleted: 0, observe.OutOfCatalog: 33, observe.Terminated: 5050}),
	}
	got := deaths.notes(lives)
	want := []string{
		"  deleted → out of the catalog  14 to 33 ms  the agentlet deregisters, and waits until Consul's servers have dropped it",
		"  out of the catalog → SIGTERM  5017 ms      drain-delay (5 s): clients that hold an older answer end their requests",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFailuresOfOneKindAreOneLine(t *testing.T) {
	got := failures(map[string]int{
		`Get "http://10.244.1.5:8080/": dial tcp 10.244.1.5:8080: connect: connection refused`:              3,
		`Get "http://10.244.2.7:8080/": dial tcp 10.244.2.7:8080: connect: connection refused`:              2,
		`Get "http://10.244.2.7:8080/": read tcp 10.99.0.1:4711->10.244.2.7:8080: connection reset by peer`: 1,
	})
	want := []string{
		"  failed: 5 × dial tcp: connect: connection refused",
		"  failed: 1 × read tcp: connection reset by peer",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
