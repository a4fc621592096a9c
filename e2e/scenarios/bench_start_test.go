package scenarios_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// notInjected are annotations of a pod that opts out.
var notInjected = []string{contract.InjectLabel[len(contract.Prefix):], contract.InjectDisabled}

// singles creates and deletes pods one at a time, on one node, and watches each.
type singles struct {
	*scenario.S
	timeline *observe.Timeline
	node     *cluster.Node
	created  int
}

// newSingles also creates an injected pod on another node, and keeps it. So the webhook's grant for the namespace is in force
// before each single pod, as it is when pods are replaced.
func newSingles(s *scenario.S) *singles {
	s.Helper()
	p := &singles{S: s, timeline: observe.NewTimeline(nil), node: s.Cluster.Nodes[0]}
	_, err := p.timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
	s.Must(err)
	p.timeline.Catalog(s.Ctx, s.Consul, s.Service())
	_, err = s.CreatePod("standing", pinned(s, s.Cluster.Nodes[1], "service-names", s.Service()+"-standing"))
	s.Must(err)
	s.AwaitReady("standing")
	return p
}

// start creates a pod of the template, with the application's start-up time and its probe period. It returns the time from the
// request until the pod was Ready, admission included.
func (p *singles) start(template corev1.PodTemplateSpec, readyAfter, probePeriod time.Duration) (life observe.Life, took time.Duration) {
	p.Helper()
	began := time.Now()
	life = p.await(p.create(template, readyAfter, probePeriod), observe.Ready)
	return life, life.At[observe.Ready].Sub(began)
}

// create creates a pod as start does, and returns its UID.
func (p *singles) create(template corev1.PodTemplateSpec, readyAfter, probePeriod time.Duration) (uid string) {
	p.Helper()
	scenario.SetEnv(&template, "READY_AFTER", readyAfter.String())
	template.Spec.Containers[0].ReadinessProbe.PeriodSeconds = int32(probePeriod.Seconds())
	p.created++
	pod, err := p.CreatePod(fmt.Sprintf("single-%d", p.created), template)
	p.Must(err)
	return string(pod.UID)
}

// end deletes the pod, waits until it is gone, and returns its life.
func (p *singles) end(life observe.Life, stations ...observe.Station) observe.Life {
	p.Helper()
	p.Delete(life.Pod)
	return p.await(life.UID, append(stations, observe.Gone)...)
}

func (p *singles) await(uid string, stations ...observe.Station) observe.Life {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Ctx, 2*time.Minute)
	defer cancel()
	life, err := p.timeline.Await(ctx, uid, stations...)
	p.Must(err)
	return life
}

// startRepeats is how often single pods of each variant are started.
const startRepeats = 11

// startVariants are annotations by the figure's name. The variant "default" has none.
var startVariants = map[string][]string{
	"plain":      notInjected,
	"default":    nil,
	"kubelet":    {"readiness", "kubelet"},
	"registered": {"gate", "registered"},
}

// startCases are periods of the readiness probe, how long after its start the application is ready, and what both add to a
// figure's name.
var startCases = []struct {
	name          string
	period, after time.Duration
	suffix        string
}{
	{"1s", time.Second, 2 * time.Second, ""},
	{"10s", 10 * time.Second, 2 * time.Second, "_10s"},
	{"at_once", time.Second, 0, "_at_once"},
}

func TestBenchStart(t *testing.T) {
	for _, c := range startCases {
		t.Run(c.name, func(t *testing.T) {
			s := scenario.New(t, scenario.Bench())
			took := map[string][]float64{}
			var pods *singles
			s.Given("a namespace with a pod", func() { pods = newSingles(s) })
			s.When("pods of each variant start and end, one at a time, again and again", func() {
				for round := range startRepeats + 1 {
					// Interleave the variants, so that other work of the machine affects all alike.
					for _, name := range slices.Sorted(maps.Keys(startVariants)) {
						// Spread the starts over a second, in the same way for each variant: the kubelet syncs once a second, and
						// each pod's end is observed just after a sync.
						s.Pause(time.Duration(round) * time.Second / (startRepeats + 1))
						template := pinned(s, pods.node, startVariants[name]...)
						template.Annotations[contract.DrainDelay] = "0s" // for the time between two pods alone
						life, ready := pods.start(template, c.after, c.period)
						pods.end(life)
						s.Logf("%d %-10s %.2f s", round, name, ready.Seconds())
						if round > 0 { // the first pod of each variant fills caches
							took[name] = append(took[name], ready.Seconds())
						}
					}
				}
			})
			s.Then("what injection adds is known", func() {
				record(s, "start_s_plain"+c.suffix, observe.Quantile(took["plain"], 0.5), len(took["plain"]))
				for name := range startVariants {
					if name != "plain" {
						added, err := observe.Added(took[name], took["plain"])
						s.Must(err)
						record(s, "start_added_s_"+name+c.suffix, added, len(took[name]))
					}
				}
			})
		})
	}
}
