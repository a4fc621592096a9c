// Package versions finds the versions of Agentlet that run in a cluster: the webhook's, and those of the agentlets in pods, which
// are as old as their pods.
package versions

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Cluster calls pods of the cluster; apiproxy.Cluster implements it.
type Cluster interface {
	Pod(ctx context.Context, namespace, pod, port, path string) ([]byte, error)
}

// Config configures Read.
type Config struct {
	Kube    kubernetes.Interface
	Cluster Cluster
	// Namespace selects the pods with an agentlet; empty for all namespaces.
	Namespace string
	// Plugin is the version of this program.
	Plugin string
}

// Running are pods of one image and version.
type Running struct {
	// Version is as its pods say; empty if none of those that were asked has answered.
	Version string `json:"version,omitempty"`
	Image   string `json:"image"`
	Pods    int    `json:"pods"`
	// New is set if pods that are created now get this agentlet.
	New bool `json:"new,omitempty"`
	// Skew says that the version is not supported with the webhook's, or with the plugin's, to which the webhook may be upgraded
	// next; empty if it is, or if one of the versions is unknown.
	Skew string `json:"skew,omitempty"`
}

// Workload has pods with another agentlet than new pods get.
type Workload struct {
	Namespace string `json:"namespace"`
	Version   string `json:"version,omitempty"`
	Image     string `json:"image"`
	Pods      int    `json:"pods"`
	// Command creates the pods anew. Where no controller would, it is a shell's comment that says so.
	Command string `json:"command"`
}

// Report is what runs.
type Report struct {
	printer.Type
	Plugin    string     `json:"plugin"`
	Webhook   []Running  `json:"webhook"`
	Agentlets []Running  `json:"agentlets"`
	Old       []Workload `json:"old"`
	// Unknown says what could not be read.
	Unknown string `json:"unknown,omitempty"`
}

// askedOfBuild is how many pods of a build are asked until one answers.
const askedOfBuild = 3

// build is an image, as a node has it: a tag may be moved, its ID isn't.
type build struct{ image, id string }

// group are the pods of one build.
type group struct {
	build
	version string
	pods    []*corev1.Pod
}

// Read reads the report.
func Read(ctx context.Context, config Config) (*Report, error) {
	list, err := config.Kube.CoreV1().Pods(config.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	report := &Report{Type: printer.NewType("Versions"), Plugin: config.Plugin, Webhook: []Running{}, Agentlets: []Running{}, Old: []Workload{}}
	var injected []*corev1.Pod
	for i := range list.Items {
		pod := &list.Items[i]
		if registration.Agentlet(pod) != nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			injected = append(injected, pod)
		}
	}
	agentlets := config.groups(ctx, injected, registration.Agentlet, agentletVersion)
	webhooks, newImage, err := config.webhook(ctx)
	if err != nil {
		report.Unknown = "the webhook: " + err.Error()
	}
	for _, g := range webhooks {
		report.Webhook = append(report.Webhook, Running{Version: g.version, Image: g.image, Pods: len(g.pods)})
	}
	newVersion := versionOf(newImage, agentlets, webhooks)
	for _, g := range agentlets {
		row := Running{Version: g.version, Image: g.image, Pods: len(g.pods), New: g.isNew(newImage, newVersion)}
		for _, webhook := range webhooks {
			row.Skew = cmp.Or(row.Skew, skew("the webhook's", webhook.version, g.version))
		}
		notNewer := func(webhook group) bool { return !newer(config.Plugin, webhook.version) }
		if len(webhooks) > 0 && !slices.ContainsFunc(webhooks, notNewer) {
			row.Skew = cmp.Or(row.Skew, skew("this plugin's", config.Plugin, g.version))
		}
		report.Agentlets = append(report.Agentlets, row)
		if newImage != "" && !row.New {
			report.Old = append(report.Old, workloads(g)...)
		}
	}
	return report, nil
}

// webhook returns the webhook's pods, and the image that it adds to new pods; nothing if it isn't installed.
func (c Config) webhook(ctx context.Context) (groups []group, newImage string, err error) {
	list, err := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("read webhook configurations: %w", err)
	}
	_, hook := installation.Hook(list.Items)
	if hook == nil {
		return nil, "", nil
	}
	replicas, err := installation.Replicas(ctx, c.Kube, hook)
	if err != nil {
		return nil, "", fmt.Errorf("read the webhook's pods: %w", err)
	}
	var pods []*corev1.Pod
	for i := range replicas {
		if replicas[i].DeletionTimestamp == nil {
			pods = append(pods, &replicas[i])
		}
	}
	if len(pods) > 0 {
		newest := slices.MaxFunc(pods, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		newImage = imageFlag(newest)
	}
	return c.groups(ctx, pods, webhookContainer, webhookVersion), newImage, nil
}

// webhookContainer returns the container of a replica that serves the webhook.
func webhookContainer(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.Containers {
		for _, arg := range pod.Spec.Containers[i].Args {
			if strings.HasPrefix(arg, imageFlagPrefix) {
				return &pod.Spec.Containers[i]
			}
		}
	}
	return nil
}

const imageFlagPrefix = "--image="

// imageFlag returns the image that a replica adds to pods.
func imageFlag(pod *corev1.Pod) string {
	if container := webhookContainer(pod); container != nil {
		for _, arg := range container.Args {
			if image, ok := strings.CutPrefix(arg, imageFlagPrefix); ok {
				return image
			}
		}
	}
	return ""
}

// groups groups pods by the build of a container, and asks some of each for its version. Groups of the same image and version are
// one; the larger ones come first.
func (c Config) groups(
	ctx context.Context,
	pods []*corev1.Pod,
	container func(*corev1.Pod) *corev1.Container,
	ask func(context.Context, Cluster, *corev1.Pod) string,
) (found []group) {
	byBuild := map[build]*group{}
	var order []*group
	for _, pod := range pods {
		of := container(pod)
		if of == nil {
			continue
		}
		key := build{of.Image, imageID(pod, of.Name)}
		if byBuild[key] == nil {
			byBuild[key] = &group{build: key}
			order = append(order, byBuild[key])
		}
		byBuild[key].pods = append(byBuild[key].pods, pod)
	}
	for _, g := range order {
		for _, pod := range g.pods[:min(len(g.pods), askedOfBuild)] {
			if g.version = ask(ctx, c.Cluster, pod); g.version != "" {
				break
			}
		}
		same := slices.IndexFunc(found, func(other group) bool { return other.image == g.image && other.version == g.version })
		if same < 0 {
			found = append(found, *g)
		} else {
			found[same].pods = append(found[same].pods, g.pods...)
		}
	}
	slices.SortStableFunc(found, func(a, b group) int { return cmp.Compare(len(b.pods), len(a.pods)) })
	return found
}

// imageID returns the ID of a container's image; empty if it does not run yet.
func imageID(pod *corev1.Pod, container string) string {
	for _, status := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if status.Name == container {
			return status.ImageID
		}
	}
	return ""
}

// agentletVersion asks an agentlet.
func agentletVersion(ctx context.Context, cluster Cluster, pod *corev1.Pod) string {
	ports := registration.Agentlet(pod).Ports
	if len(ports) == 0 {
		return ""
	}
	return buildInfo(ctx, cluster, pod, strconv.Itoa(int(ports[0].ContainerPort)))
}

// webhookVersion asks a replica of the webhook.
func webhookVersion(ctx context.Context, cluster Cluster, pod *corev1.Pod) string {
	return buildInfo(ctx, cluster, pod, installation.HealthPort(pod))
}

// buildMetric has the version of an agentlet, or of the webhook, in a label.
var buildMetric = regexp.MustCompile(`(?m)^agentlet_(?:webhook_)?build_info\{[^}\n]*\bversion="([^"\n]*)"`)

// buildInfo returns the version in a program's metrics; empty if it does not answer.
func buildInfo(ctx context.Context, cluster Cluster, pod *corev1.Pod, port string) string {
	body, err := cluster.Pod(ctx, pod.Namespace, pod.Name, port, strings.TrimPrefix(contract.MetricsPath, "/"))
	if err != nil {
		return ""
	}
	if found := buildMetric.FindSubmatch(body); found != nil {
		return string(found[1])
	}
	return ""
}

// versionOf returns the version of an image; empty if nothing of that image has answered.
func versionOf(image string, groups ...[]group) string {
	for _, g := range slices.Concat(groups...) {
		if g.image == image && g.version != "" {
			return g.version
		}
	}
	return ""
}

// isNew reports whether this is what new pods get. The same version from another registry is.
func (g *group) isNew(image, version string) bool {
	if g.version != "" && version != "" && g.version != develop {
		return g.version == version
	}
	return image != "" && g.image == image
}

// develop is the version of builds that are no release.
const develop = "dev"

// workloads returns the owners of pods, with a command for each.
func workloads(g group) (found []Workload) {
	for _, pod := range g.pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		command := recreate(pod)
		at := slices.IndexFunc(found, func(w Workload) bool { return w.Command == command })
		if at < 0 {
			at = len(found)
			found = append(found, Workload{Namespace: pod.Namespace, Version: g.version, Image: g.image, Command: command})
		}
		found[at].Pods++
	}
	return found
}

// recreate returns a command that a script can run: a pod without a controller would be lost by it.
func recreate(pod *corev1.Pod) string {
	if metav1.GetControllerOf(pod) == nil {
		return fmt.Sprintf("# no controller has pod %s of namespace %s: delete it, and create it again", pod.Name, pod.Namespace)
	}
	return installation.Recreate(pod)
}

// maxSkew is how many releases (minor versions) an agentlet and the webhook may be apart, either way.
const maxSkew = 2

// newer reports whether a release is newer than another; not if one is no release.
func newer(release, other string) bool {
	a, errA := version.ParseSemantic(release)
	b, errB := version.ParseSemantic(other)
	return errA == nil && errB == nil && b.LessThan(a)
}

// skew says that an agentlet's version is not supported with another, which somebody has; it is empty if it is, or if one is no
// release.
func skew(whose, other, agentlet string) string {
	a, errA := version.ParseSemantic(other)
	b, errB := version.ParseSemantic(agentlet)
	if errA != nil || errB != nil {
		return ""
	}
	apart := max(a.Minor(), b.Minor()) - min(a.Minor(), b.Minor())
	switch {
	case a.Major() != b.Major():
		return fmt.Sprintf("another major version than %s %s", whose, other)
	case apart > maxSkew:
		return fmt.Sprintf("%d releases apart from %s %s, and at most %d are supported", apart, whose, other, maxSkew)
	}
	return ""
}
