package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// entered returns the catalog's entries of the service, by pod: their create and modify indexes, and the definition's
// fingerprint.
func entered(s *scenario.S) map[string]string {
	s.Helper()
	entries := map[string]string{}
	for _, entry := range s.Passing(s.Service()) {
		i := entry.Service
		entries[i.Meta[contract.MetaPodUID]] = fmt.Sprintf("created %d, changed %d, %s", i.CreateIndex, i.ModifyIndex, notesOf(entry.Checks, contract.HeartbeatID(i.ID)))
	}
	return entries
}

func notesOf(checks api.HealthChecks, id string) string {
	for _, check := range checks {
		if check.CheckID == id {
			return check.Notes
		}
	}
	return ""
}

// TestUpgradeFromAnOlderTree upgrades an installation with running pods, whose agentlets only know the older names.
func TestUpgradeFromAnOlderTree(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	reinstalled(s)
	var built toolchain.Older
	s.Given("an older tree's image and chart, installed", func() {
		built = older(s, beforePlacement)
		s.Must(s.InstallChart(s.Ctx, built.Chart, "image.tag="+built.Version))
	})
	var f followed
	s.Given("four of its pods, followed by a client", func() {
		f = follow(s, 4, func(template *corev1.PodTemplateSpec) {
			// Keep the grace period short: a frozen agentlet is killed only after it, and sends no heartbeats until then.
			template.Spec.TerminationGracePeriodSeconds = new(int64(5))
			template.Annotations[contract.HeartbeatTTL] = "2m"
		})
		for _, pod := range s.Pods(s.Ctx) {
			if image := agentletImage(&pod); !strings.HasSuffix(image, ":"+built.Version) {
				s.Fatalf("%s has the image %s", pod.Name, image)
			}
		}
	})
	loading, enough := context.WithCancel(s.Ctx)
	defer enough()
	done := make(chan struct{})
	go func() { defer close(done); f.client.Run(loading, 100) }()
	before := entered(s)
	unchanged := func(what string) {
		s.Then("no instance is registered again,"+what, func() {
			now := entered(s)
			if len(now) != len(before) {
				s.Errorf("%d instances, before there were %d", len(now), len(before))
			}
			for uid, entry := range now {
				if entry != before[uid] {
					s.Errorf("the instance of pod %s: %s, before: %s", uid, entry, before[uid])
				}
			}
			for _, pod := range s.Pods(s.Ctx) {
				if gate := scenario.Condition(&pod, contract.Condition); gate.Status != corev1.ConditionTrue {
					s.Errorf("the gate of %s is %s, %s: %s", pod.Name, gate.Status, gate.Reason, gate.Message)
				}
			}
		})
	}
	s.When("the installation is upgraded to this tree", func() {
		s.Must(s.Install(s.Ctx))
		awaitWebhooks(s)
	})
	unchanged("while the older agentlets go on")
	s.Then("the plugin lists them, and how to create their pods anew", func() {
		out, ok := newPlugin(s).run("", "version", "-n", s.Namespace)
		if !ok || !strings.Contains(out, "4 pods have another agentlet than new pods get") || !strings.Contains(out, "rollout restart deployment/sample") {
			s.Errorf("%v, %s", ok, out)
		}
	})
	s.When("this tree's agentlet takes over in the running pods; the older one is frozen, so that it can't drain them", func() {
		for _, pod := range s.Pods(s.Ctx) {
			started := scenario.AgentletStatus(&pod).RestartCount
			process, err := scenario.FindProcess("agentlet run", string(pod.UID))
			s.Must(err)
			s.Must(syscall.Kill(process.PID, syscall.SIGSTOP))
			patch := fmt.Sprintf(`{"spec":{"initContainers":[{"name":%q,"image":%q}]}}`, contract.ContainerName, "agentlet/agentlet:"+today)
			_, err = s.Kube.CoreV1().Pods(s.Namespace).Patch(s.Ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
			s.Must(err)
			s.Eventually("the agentlet of "+pod.Name, func(ctx context.Context) (bool, error) {
				now := s.Pod(pod.Name)
				if scenario.AgentletStatus(now).RestartCount == started {
					return false, errors.New("it has not restarted")
				}
				_, err := adopted(ctx, now)
				return err == nil, err
			})
		}
	})
	s.Then("each agentlet has adopted its instance, and registered nothing", func() {
		for _, pod := range s.Pods(s.Ctx) {
			n, err := adopted(s.Ctx, &pod)
			s.Must(err)
			if n != 0 {
				s.Errorf("%s: %.0f registrations", pod.Name, n)
			}
		}
	})
	unchanged("after the newer agentlets have taken over")
	s.When("the pods are replaced by those of this tree", func() { f.restart(0) })
	s.Then("the catalog has exactly the new pods, and nothing of the old ones", func() {
		s.AwaitCatalog(s.Service(), 4)
		running := uids(f.timeline.Lives())
		for _, entry := range s.Catalog(s.Service()) {
			uid := entry.Service.Meta[contract.MetaPodUID]
			if before[uid] != "" || !running[uid] || entry.Service.Meta[contract.MetaNudge] != "" {
				s.Errorf("the catalog has %s with meta %v", entry.Service.ID, entry.Service.Meta)
			}
		}
		bindings, err := s.Kube.RbacV1().RoleBindings(s.Namespace).List(s.Ctx, metav1.ListOptions{})
		s.Must(err)
		if len(bindings.Items) != 1 {
			s.Errorf("%d role bindings, want one", len(bindings.Items))
		}
	})
	enough()
	<-done
	s.Then("no request has failed", func() {
		requests, _ := f.client.Counts()
		s.Logf("%d requests", requests)
		s.Must(f.client.Check())
	})
}

// adopted returns how many registrations a pod's agentlet has made since its start, or an error before its gate is open.
func adopted(ctx context.Context, pod *corev1.Pod) (registrations float64, err error) {
	text, err := scenario.Get(ctx, "http://"+pod.Status.PodIP+":19500"+contract.MetricsPath)
	if err != nil {
		return 0, err
	}
	all := func(map[string]string) bool { return true }
	if open, err := scenario.Sum(text, "agentlet_gate_open", all); err != nil || open != 1 {
		return 0, errors.Join(err, errors.New("its gate is not open"))
	}
	return scenario.Sum(text, "agentlet_registrations_total", all)
}

func agentletImage(pod *corev1.Pod) string {
	return registration.Agentlet(pod).Image
}
