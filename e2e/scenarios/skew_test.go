package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
	"github.com/agentlet/agentlet/internal/cli/versions"
)

// Nothing has been released yet, so commits stand for older releases.
const (
	// beforePlacement is the last commit in which the sync generation was called agentlet-nudge. It knows the agentlet as a native
	// sidecar only.
	beforePlacement = "4b98f489c6387d4224bf7f000ac8095792523605"
	// sameKeys is a commit with the keys of today's contract. It knows neither namespaces' defaults, nor services without a port or
	// with named ports, nor drain-hook: chain.
	sameKeys = "debf4c5d50a593fe6dc834a4ccede58f74e58c95"
)

// older builds the image and the chart of a commit once, and loads the image. Without the repository's history, as in a shallow
// clone, the scenario is skipped. If a whole history lacks the commit, it fails.
func older(s *scenario.S, commit string) toolchain.Older {
	s.Helper()
	built, err := toolchain.EnsureCommit(s.Ctx, s.Output(), s.Root, commit)
	if errors.Is(err, toolchain.ErrNoHistory) {
		s.Skip("SKIPPED: ", err)
	}
	s.Must(err)
	s.Must(s.Cluster.LoadImage(s.Ctx, built.Image))
	return built
}

const (
	// today is the version of this tree's build, and its image's tag.
	today = "dev"

	skewReplicas = 4
	skewRate     = 200
)

// skew is an older release beside today's.
type skew struct {
	followed
	older  toolchain.Older
	plugin *plugin
	// values are set wherever today's chart is installed.
	values []string
}

// install installs the webhook and the chart of a version, which adds the agentlet of a version to new pods.
func (k *skew) install(webhook, agentlet string) {
	k.Helper()
	chart, values := k.Chart(), slices.Clone(k.values)
	if webhook == k.older.Version {
		chart, values = k.older.Chart, nil
	}
	values = append(values, "image.tag="+webhook, "agentlet.image.repository=agentlet/agentlet", "agentlet.image.tag="+agentlet)
	k.Must(k.InstallChart(k.Ctx, chart, values...))
	awaitWebhooks(k.S)
}

// undisturbed checks that the pods' agentlets keep gate and registration, and still follow readiness.
func (k *skew) undisturbed(before map[string]string) {
	k.Helper()
	now := entered(k.S)
	for uid, entry := range before {
		if now[uid] != entry {
			k.Errorf("the instance of pod %s: %q, before: %q", uid, now[uid], entry)
		}
	}
	pods := k.Pods(k.Ctx)
	for _, pod := range pods {
		if gate := scenario.Condition(&pod, contract.Condition); gate.Status != corev1.ConditionTrue {
			k.Errorf("the gate of %s is %s, %s: %s", pod.Name, gate.Status, gate.Reason, gate.Message)
		}
	}
	for _, step := range []struct {
		path    string
		passing int
	}{{"/unready", len(pods) - 1}, {"/ready", len(pods)}} {
		k.Must(put(k.S, &pods[0], step.path))
		k.Eventually("Consul to follow "+step.path, func(context.Context) (bool, error) {
			return len(k.Passing(k.Service())) == step.passing, nil
		})
	}
}

// entire checks that the catalog has exactly the pods that there are, and returns how many have each version of the agentlet.
func (k *skew) entire() map[string]int {
	k.Helper()
	k.AwaitCatalog(k.Service(), skewReplicas)
	pods, counts := map[string]bool{}, map[string]int{}
	for _, pod := range k.Pods(k.Ctx) {
		pods[string(pod.UID)] = true
		image := registration.Agentlet(&pod).Image
		counts[image[strings.LastIndexByte(image, ':')+1:]]++
	}
	for _, entry := range k.Catalog(k.Service()) {
		if !pods[entry.Service.Meta[contract.MetaPodUID]] {
			k.Errorf("the catalog has %s, whose pod is gone", entry.Service.ID)
		}
	}
	return counts
}

// told checks what `kubectl agentlet version` says.
func (k *skew) told(webhook, agentlet string) {
	k.Helper()
	out, ok := k.plugin.run("", "version", "-n", k.Namespace, "-o", "json")
	var report versions.Report
	if err := json.Unmarshal([]byte(out), &report); !ok || err != nil {
		k.Fatalf("kubectl agentlet version: %v, %v: %s", ok, err, out)
	}
	if len(report.Webhook) != 1 || report.Webhook[0].Version != webhook {
		k.Errorf("it says of the webhook: %+v, want version %s", report.Webhook, webhook)
	}
	of := versions.Running{Version: agentlet, Image: "agentlet/agentlet:" + agentlet, Pods: skewReplicas, New: true}
	if !slices.Equal(report.Agentlets, []versions.Running{of}) || len(report.Old) > 0 {
		k.Errorf("it says of agentlets: %+v, and to create anew: %+v; want only %+v", report.Agentlets, report.Old, of)
	}
}

// TestSkew runs agentlets of older releases with today's webhook, and today's agentlets with their webhooks and charts. A client
// sends requests all the time.
func TestSkew(t *testing.T) {
	for name, release := range map[string]struct {
		commit string
		values []string
	}{
		"BeforePlacement": {beforePlacement, []string{"defaults.placement=sidecar"}},
		"SameKeys":        {sameKeys, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t, scenario.Long())
			reinstalled(s)
			k := &skew{values: release.values}
			s.Given("an older release, with four pods that a client follows", func() {
				k.older, k.plugin = older(s, release.commit), newPlugin(s)
				k.S = s
				k.install(k.older.Version, k.older.Version)
				k.followed = follow(s, skewReplicas)
			})
			loading, enough := context.WithCancel(s.Ctx)
			defer enough()
			done := make(chan struct{})
			go func() { defer close(done); k.client.Run(loading, skewRate) }()
			k.changeMidway("all is upgraded during a rolling restart", today)
			k.changeMidway("all is rolled back during a rolling restart", k.older.Version)
			k.takeTurns("the webhook is upgraded, and pods still get the older agentlet", today, k.older.Version)
			k.takeTurns("the webhook is rolled back, and pods get today's agentlet", k.older.Version, today)
			enough()
			<-done
			s.Then("no request has failed", func() {
				requests, _ := k.client.Counts()
				s.Logf("%d requests", requests)
				s.Must(k.client.Check())
			})
		})
	}
}

// takeTurns installs a webhook and an agentlet of different releases, while pods of the previous installation run, and then
// replaces these.
func (k *skew) takeTurns(what, webhook, agentlet string) {
	before := entered(k.S)
	k.When(what, func() { k.install(webhook, agentlet) })
	k.Then("the pods that run keep gate and registration, and Consul follows their readiness", func() { k.undisturbed(before) })
	lives := uids(k.timeline.Lives())
	k.When("they are replaced", func() { k.restart(0) })
	k.Then("the new ones have registered, and the old ones were drained and are gone", func() {
		if counts := k.entire(); counts[agentlet] != skewReplicas {
			k.Errorf("pods by their agentlet: %v, want %d of %s", counts, skewReplicas, agentlet)
		}
		k.judge(livesAfter(k.timeline, lives))
		k.told(webhook, agentlet)
	})
}

// changeMidway installs a release while pods are being replaced.
func (k *skew) changeMidway(what, version string) {
	lives := uids(k.timeline.Lives())
	gone := func() int { return len(observe.Spans(k.timeline.Lives(), observe.Deleted, observe.Gone)) }
	before := gone()
	k.When(what, func() {
		k.Restart()
		k.install(version, version)
		k.Rollout()
		k.Eventually("the old pods to be gone", func(context.Context) (bool, error) { return gone() == before+skewReplicas, nil })
	})
	k.Then("the catalog has the new pods alone", func() {
		k.Logf("pods by their agentlet: %v", k.entire())
		k.judge(livesAfter(k.timeline, lives))
	})
	lives = uids(k.timeline.Lives())
	k.When("the pods are replaced once more", func() { k.restart(0) })
	k.Then("all have the agentlet of this release", func() {
		if counts := k.entire(); counts[version] != skewReplicas {
			k.Errorf("pods by their agentlet: %v, want %d of %s", counts, skewReplicas, version)
		}
		k.judge(livesAfter(k.timeline, lives))
		k.told(version, version)
	})
}
