package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// reinstalled restores the chart's original installation after a scenario that changes it.
func reinstalled(s *scenario.S) {
	s.Helper()
	s.Afterwards(4*time.Minute, func(ctx context.Context) {
		if err := s.Install(ctx); err != nil {
			s.Error(err)
		}
	})
}

// dryPod returns the sample's pod as the API server would create it, from a dry run.
func dryPod(s *scenario.S) *corev1.Pod {
	s.Helper()
	template := s.Sample(s.Annotations())
	template.GenerateName = "admitted-"
	pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	s.Must(err)
	if !scenario.Injected(pod) {
		s.Fatal("the pod is not injected")
	}
	return pod
}

// TestChartIsAccepted makes the real API server validate the manifests of several sets of values.
func TestChartIsAccepted(t *testing.T) {
	s := scenario.New(t)
	for name, values := range map[string]string{
		"as it is":       "{}",
		"listed grants":  `{grants: {mode: list, namespaces: [default]}, policy: {enabled: true}}`,
		"host's network": `{hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, webhook: {port: 19443, metricsPort: 19080}}`,
		"network policy": `{networkPolicy: {enabled: true, webhookFrom: [{ipBlock: {cidr: 10.0.0.1/32}}], metricsFrom: [{podSelector: {}}]}}`,
		"platform": `{replicas: 1, podSecurityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000}, commonLabels: {team: a},
			podLabels: {tier: b}, podAnnotations: {c: d}, tolerations: [{operator: Exists}], nodeSelector: {kubernetes.io/os: linux},
			extraEnv: [{name: A, value: b}], extraArgs: [--log-level=debug], imagePullSecrets: [{name: a}], priorityClassName: "",
			resources: {limits: {memory: 1Gi}}, serviceAccount: {annotations: {e: f}}, revisionHistoryLimit: 0,
			affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}},
			topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]}`,
		"additions": `{commonAnnotations: {a: b}, deploymentAnnotations: {c: d}, global: {imageRegistry: mirror.example, imagePullSecrets: [a]},
			extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /a}], resourceQuota: {enabled: true},
			service: {type: NodePort, ipFamilyPolicy: SingleStack, ipFamilies: [IPv4]}, serviceAccount: {labels: {a: b}}, dashboards: {enabled: true},
			replicas: 3, podDisruptionBudget: {minAvailable: 50%, unhealthyPodEvictionPolicy: IfHealthyBudget},
			extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}]}`,
		"selectors": `{webhook: {failurePolicy: Ignore, annotations: {a: b}, excludedNamespaces: [a],
			namespaceSelector: {matchLabels: {env: prod}, matchExpressions: [{key: a, operator: In, values: [b]}]},
			objectSelector: {matchLabels: {env: prod}, matchExpressions: [{key: a, operator: DoesNotExist}]}}}`,
		"agentlets": `{defaults: {drain-delay: 10s, service-tags: 'a b,"c"'}, clusterName: "eu 1", allowedServices: "web,shop-*",
			agentlet: {imagePullSecrets: [{name: a}], image: {repository: registry.example/a, tag: b, pullPolicy: Always}}}`,
	} {
		s.Then(name+": accepted", func() {
			file := filepath.Join(s.TempDir(), "values.yaml")
			s.Must(os.WriteFile(file, []byte(values), 0o600))
			rendered, err := s.HelmOutput(s.Ctx, "template", scenario.Release, s.Chart(),
				"--set=image.repository=agentlet/agentlet", "-f", file)
			s.Must(err)
			manifests := filepath.Join(s.TempDir(), "manifests.yaml")
			s.Must(os.WriteFile(manifests, []byte(rendered), 0o600))
			_, err = s.Kubectl(s.Ctx, "apply", "-f", manifests, "--server-side", "--dry-run=server", "--validate=strict",
				"--force-conflicts", "--field-manager=helm")
			s.Must(err)
		})
	}
}

// TestChartIsWithoutDrift compares the chart with the cluster, where the API server has set defaults and the webhook its caBundles, as
// Argo CD and Flux do: by a three-way difference, and by a dry run of a server-side apply that forces nothing.
func TestChartIsWithoutDrift(t *testing.T) {
	s := scenario.New(t)
	manifests := filepath.Join(s.TempDir(), "manifests.yaml")
	s.Given("the chart as it is installed, and caBundles that the webhook has written", func() {
		rendered, err := s.HelmOutput(s.Ctx, "get", "manifest", scenario.Release)
		s.Must(err)
		s.Must(os.WriteFile(manifests, []byte(rendered), 0o600))
		s.Eventually("a caBundle", func(ctx context.Context) (bool, error) {
			bundle, err := bundleNow(ctx, s)
			return len(bundle) > 0, err
		})
	})
	for name, flags := range map[string][]string{
		"three-way":   nil,
		"server-side": {"--server-side", "--field-manager=gitops"},
	} {
		s.Then("no "+name+" difference is there, and no conflict", func() {
			_, err := s.Kubectl(s.Ctx, append([]string{"diff", "-f", manifests}, flags...)...)
			s.Must(err)
		})
	}
}

// TestChartTest runs the chart's own test.
func TestChartTest(t *testing.T) {
	s := scenario.New(t)
	s.When("helm test runs, it proves an injection", func() {
		out, err := s.HelmOutput(s.Ctx, "test", scenario.Release, "--timeout=90s")
		s.Must(err)
		if !strings.Contains(out, "Succeeded") {
			s.Errorf("helm test says:\n%s", out)
		}
	})
	s.Then("the test leaves nothing behind", func() {
		s.Eventually("the end of its namespace", func(ctx context.Context) (bool, error) {
			left, err := s.Kubectl(ctx, "get", "namespace/agentlet-helm-test", "pod/agentlet-helm-test", "serviceaccount/agentlet-helm-test",
				"-n", scenario.SystemNamespace, "--ignore-not-found", "-o", "name")
			return err == nil && strings.TrimSpace(left) == "", err
		})
	})
}

// TestChartTestFails checks that the chart's own test can fail.
func TestChartTestFails(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	reinstalled(s)
	s.Given("a webhook without replicas", func() { scaleWebhook(s.Ctx, s, 0) })
	s.Then("helm test fails", func() {
		if out, err := s.HelmOutput(s.Ctx, "test", scenario.Release, "--timeout=20s"); err == nil {
			s.Errorf("helm test says:\n%s", out)
		}
	})
	s.When("the webhook is back, it passes, and removes what the failed run has left", func() {
		scaleWebhook(s.Ctx, s, 2)
		awaitWebhooks(s)
		_, err := s.HelmOutput(s.Ctx, "test", scenario.Release, "--timeout=90s")
		s.Must(err)
	})
}

// TestChartOnTheHostsNetwork tests the installation for API servers that can't reach pods.
func TestChartOnTheHostsNetwork(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	reinstalled(s)
	values := []string{"hostNetwork=true", "webhook.port=19443", "webhook.metricsPort=19080"}
	s.Given("the webhook on its nodes' network, on ports of our choice", func() { s.Must(s.Install(s.Ctx, values...)) })
	s.Then("its pods have their nodes' addresses, and pods are injected", func() {
		for _, pod := range awaitWebhooks(s) {
			if pod.Status.PodIP != pod.Status.HostIP {
				s.Errorf("%s has %s on %s", pod.Name, pod.Status.PodIP, pod.Status.HostIP)
			}
		}
		dryPod(s)
	})
	var during *admissions
	s.When("it is upgraded", func() {
		during = admitWhile(s, 0, func() { s.Must(s.Install(s.Ctx, values...)) })
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "upgrade_host_network") })
}

// TestUpgradeAndRollback starts from a package with another version and other values.
func TestUpgradeAndRollback(t *testing.T) {
	s := scenario.New(t)
	reinstalled(s)
	var before string // revision
	s.Given("a packaged chart of an earlier version, with values of its own", func() {
		folder := s.TempDir()
		s.Must(s.Command(s.Ctx, s.Helm, "package", s.Chart(), "-d", folder, "--version=0.0.1", "--app-version=0.0.1"))
		s.Must(s.InstallChart(s.Ctx, filepath.Join(folder, "agentlet-0.0.1.tgz"), "clusterName=before", "agentlet.imagePullSecrets[0].name=before"))
		var err error
		before, err = s.HelmOutput(s.Ctx, "list", "-o", `json`)
		s.Must(err)
		_, before, _ = strings.Cut(before, `"revision":"`)
		before, _, _ = strings.Cut(before, `"`)
		injectedFor(s, "before")
	})
	judge := func(name string, during *admissions) {
		s.Then("no creation is lost, each pod is injected, and the replicas run on two nodes", func() {
			if pods := awaitWebhooks(s); pods[0].Spec.NodeName == pods[1].Spec.NodeName {
				s.Errorf("both replicas run on %s", pods[0].Spec.NodeName)
			}
			during.judge(s, name)
		})
	}
	var during *admissions
	s.When("it is upgraded to this chart and other values", func() {
		during = admitWhile(s, 0, func() { s.Must(s.Install(s.Ctx, "clusterName=after", "agentlet.imagePullSecrets[0].name=after")) })
		injectedFor(s, "after")
	})
	judge("helm_upgrade", during)
	s.When("it is rolled back to revision "+before, func() {
		during = admitWhile(s, 0, func() {
			_, err := s.HelmOutput(s.Ctx, "rollback", scenario.Release, before, "--wait", "--timeout=2m")
			s.Must(err)
		})
		injectedFor(s, "before")
	})
	judge("helm_rollback", during)
}

// injectedFor waits until pods are injected by the installation that this word identifies.
func injectedFor(s *scenario.S, word string) {
	s.Helper()
	s.Eventually("injection as "+word, func(context.Context) (bool, error) {
		pod := dryPod(s)
		args := registration.Agentlet(pod).Args
		return slices.Contains(args, "--cluster-name="+word) &&
			slices.Contains(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: word}), fmt.Errorf("%q", args)
	})
}

// leftovers returns the names of all objects of the release, and of the webhook's own, except the CA's Secret.
func leftovers(ctx context.Context, s *scenario.S) (names []string, err error) {
	const clusterWide = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations," +
		"validatingadmissionpolicies,validatingadmissionpolicybindings"
	const mine = "app.kubernetes.io/instance=" + scenario.Release + "," + webhookSelector
	for _, args := range [][]string{
		{clusterWide, "-l", mine},
		{"rolebindings", "--all-namespaces", "-l", "app.kubernetes.io/managed-by=agentlet-webhook"},
		{"deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets,pods", "-n", scenario.SystemNamespace, "-l", mine},
	} {
		out, err := s.Kubectl(ctx, append([]string{"get", "-o", "name"}, args...)...)
		if err != nil {
			return nil, err
		}
		names = append(names, strings.Fields(out)...)
	}
	slices.Sort(names)
	return names, nil
}

// TestUninstall runs alone, because it removes the chart for a while.
func TestUninstall(t *testing.T) {
	s := scenario.New(t)
	reinstalled(s)
	var pod *corev1.Pod
	var removal, left []string
	s.Given("a registered pod", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations()))
		s.Must(err)
		pod = s.AwaitReady("web")
	})
	s.Given("what the chart's notes say of its removal", func() {
		notes, err := s.HelmOutput(s.Ctx, "get", "notes", scenario.Release)
		s.Must(err)
		for line := range strings.Lines(notes) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "kubectl delete ") {
				removal = append(removal, line)
			}
		}
		if len(removal) == 0 {
			s.Errorf("nothing in\n%s", notes)
		}
	})
	uninstall := func() {
		_, err := s.HelmOutput(s.Ctx, "uninstall", scenario.Release, "--wait")
		s.Must(err)
	}
	s.When("the chart is removed", uninstall)
	s.Then("only what running pods need is left", func() {
		want := []string{
			"clusterrole.rbac.authorization.k8s.io/" + grantRole,
			"rolebinding.rbac.authorization.k8s.io/" + grantBinding,
			"validatingadmissionpolicy.admissionregistration.k8s.io/" + eventsPolicy,
			"validatingadmissionpolicy.admissionregistration.k8s.io/" + gatePolicy,
			"validatingadmissionpolicybinding.admissionregistration.k8s.io/" + eventsPolicy,
			"validatingadmissionpolicybinding.admissionregistration.k8s.io/" + gatePolicy,
		}
		s.Eventually("it", func(ctx context.Context) (bool, error) {
			now, err := leftovers(ctx, s)
			if err == nil {
				left = now
			}
			return slices.Equal(left, want), errors.Join(err, fmt.Errorf("left: %q", left))
		})
	})
	s.Then("the pod keeps its rights, within the same policies, and drains", func() {
		if !may(s, s.Namespace, "default", "patch pods/status") {
			s.Error("the pod may no longer write its gate")
		}
		if now := s.Pod("web"); !scenario.IsReady(now) || len(s.Passing(s.Service())) != 1 {
			s.Errorf("conditions %v, passing %v", now.Status.Conditions, s.Passing(s.Service()))
		}
		drains(s, pod)
	})
	s.When("the chart is installed again, it takes over what was left", func() {
		s.Must(s.Install(s.Ctx))
		awaitNoGrant(s)
		_, err := s.CreatePod("again", s.Sample(s.Annotations()))
		s.Must(err)
		pod = s.AwaitReady("again")
		s.Delete("again")
		s.AwaitGone(pod)
	})
	s.When("it is removed after the last injected pod, and the rest as the notes say", func() {
		uninstall()
		for _, line := range removal {
			_, err := s.Kubectl(s.Ctx, strings.Fields(line)[1:]...)
			s.Must(err)
		}
	})
	s.Then("only the CA's Secret is left", func() {
		s.Eventually("it", func(ctx context.Context) (bool, error) {
			now, err := leftovers(ctx, s)
			if err == nil {
				left = now
			}
			return len(left) == 0, errors.Join(err, fmt.Errorf("left: %q", left))
		})
	})
	s.Then("pods that request an agentlet are created without one", func() {
		template := s.Sample(s.Annotations())
		template.GenerateName = "plain-"
		created, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		s.Must(err)
		if scenario.Injected(created) {
			s.Error("injected by whom?")
		}
	})
}
