package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/hack/image"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// InClusterConsul is the value of AGENTLET_CONSUL that runs Consul in pods, as in examples/consul.
const InClusterConsul = "in-cluster"

// ConsulNamespace is the namespace of the Consul that runs in pods.
const ConsulNamespace = "consul"

// ConsulImage is the image of examples/consul. It is built here under the same name, so it is not pulled.
const ConsulImage = "hashicorp/consul:1.22.7"

// ClusterOptions returns the options of the cluster that Start brings up, from AGENTLET_KUBERNETES, AGENTLET_CONSUL and
// AGENTLET_CONSUL_TOOLS. The first and the last name tool sets.
func ClusterOptions(log io.Writer) (cluster.Options, error) {
	options := cluster.Options{
		Kubernetes: os.Getenv("AGENTLET_KUBERNETES"), ConsulTools: os.Getenv("AGENTLET_CONSUL_TOOLS"), Log: log,
	}
	switch where := os.Getenv("AGENTLET_CONSUL"); where {
	case "":
	case InClusterConsul:
		if options.ConsulTools != "" {
			return options, fmt.Errorf("AGENTLET_CONSUL_TOOLS=%s: want nothing with AGENTLET_CONSUL=%s", options.ConsulTools, where)
		}
		options.Consul, options.Nodes = cluster.ConsulNone, 3 // one node for each server
	default:
		return options, fmt.Errorf("AGENTLET_CONSUL=%s: want nothing, or %s", where, InClusterConsul)
	}
	return options, nil
}

// InCluster reports whether Consul runs in pods.
func (e *Env) InCluster() bool {
	return e.Cluster != nil && e.Cluster.Options.Consul == cluster.ConsulNone
}

// ConsulAddr returns host and port of the Consul HTTP API that scenarios use.
func (e *Env) ConsulAddr() string {
	if e.InCluster() {
		return e.Cluster.Nodes[0].ConsulAddr()
	}
	return e.Cluster.ConsulAddr()
}

// startConsul prepares the cluster for the Consul in pods, and installs it unless it is there.
func (e *Env) startConsul(ctx context.Context, log io.Writer) error {
	if _, err := e.Kube.AppsV1().DaemonSets(ConsulNamespace).Get(ctx, "consul-client", metav1.GetOptions{}); err == nil {
		return e.AwaitConsul(ctx)
	}
	if err := e.LoadConsulImage(ctx, log); err != nil {
		return err
	}
	return e.InstallConsul(ctx, "base")
}

// LoadConsulImage builds ConsulImage and loads it onto all nodes.
func (e *Env) LoadConsulImage(ctx context.Context, log io.Writer) error {
	tools, err := toolchain.Ensure(ctx, log, toolchain.Consul)
	if err != nil {
		return err
	}
	tarball := filepath.Join(e.Cluster.Dir(), "consul.tar")
	if err := BuildConsulImage(ctx, tools.Program(toolchain.Consul, "consul"), tarball); err != nil {
		return err
	}
	return e.Cluster.LoadImage(ctx, tarball)
}

// BuildConsulImage builds an image from this machine's consul and the programs of the official image that the examples use.
func BuildConsulImage(ctx context.Context, consul, tarball string) error {
	files := []image.File{{Path: "/bin/consul", Source: consul}}
	for _, name := range []string{"sh", "cat", "sleep", "curl", "jq"} {
		program, err := exec.LookPath(name)
		if err != nil {
			return fmt.Errorf("find program: %w", err)
		}
		files = append(files, image.File{Path: "/bin/" + name, Source: program})
		libraries, err := libraries(ctx, program)
		if err != nil {
			return err
		}
		for _, library := range libraries {
			file := image.File{Path: library, Source: library}
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	img, err := image.Build(image.Spec{Files: files, Env: []string{"PATH=/bin"}})
	if err != nil {
		return err
	}
	return image.WriteTarball(tarball, ConsulImage, img)
}

// library matches a line of ldd that names a file.
var library = regexp.MustCompile(`(/\S+) \(0x`)

// libraries returns the shared libraries of a program.
func libraries(ctx context.Context, program string) (paths []string, err error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("list libraries of %s: %w", program, err)
	}
	for _, match := range library.FindAllStringSubmatch(string(out), -1) {
		paths = append(paths, match[1])
	}
	return paths, nil
}

// InstallConsul applies a variant of examples/consul to a cluster without Consul, and waits until its agents have joined.
func (e *Env) InstallConsul(ctx context.Context, variant string) error {
	overlay, err := e.PrepareConsul(ctx, variant)
	if err != nil {
		return err
	}
	if _, err := e.Kubectl(ctx, "apply", "-k", overlay); err != nil {
		return err
	}
	return e.AwaitConsul(ctx)
}

// PrepareConsul creates the volumes, because the cluster has no provisioner. It returns the folder of an overlay over the
// variant: the nodes share this machine's disk, so each node's client gets its own data folder.
func (e *Env) PrepareConsul(ctx context.Context, variant string) (overlay string, err error) {
	if err := e.makeVolumes(ctx); err != nil {
		return "", err
	}
	overlay = e.consulDir("overlay")
	base, err := filepath.Rel(overlay, filepath.Join(e.Root, "examples", "consul", variant))
	if err != nil {
		return "", err
	}
	kustomization := fmt.Sprintf(`
resources: [%s]
patches:
- target: {kind: DaemonSet}
  patch: |-
    - {op: replace, path: /spec/template/spec/volumes/1/hostPath/path, value: %s}
    - {op: add, path: /spec/template/spec/containers/0/volumeMounts/1/subPathExpr, value: $(NODE_NAME)}
`, base, e.consulDir("clients"))
	if err := os.MkdirAll(overlay, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(kustomization), 0o600); err != nil {
		return "", fmt.Errorf("write overlay: %w", err)
	}
	return overlay, nil
}

func (e *Env) consulDir(name string) string { return filepath.Join(e.Cluster.Dir(), "consul", name) }

// AwaitConsul waits until all servers run and all clients know a leader.
func (e *Env) AwaitConsul(ctx context.Context) error {
	for _, workload := range []string{"statefulset/consul-server", "daemonset/consul-client"} {
		if _, err := e.Kubectl(ctx, "-n", ConsulNamespace, "rollout", "status", workload, "--timeout=4m"); err != nil {
			return errors.Join(err, errors.New(e.consulState(ctx)))
		}
	}
	return nil
}

// consulState describes the Consul in pods, for error messages.
func (e *Env) consulState(ctx context.Context) string {
	pods, _ := e.Kubectl(ctx, "-n", ConsulNamespace, "get", "pods,persistentvolumeclaims", "-o", "wide")
	events, _ := e.Kubectl(ctx, "-n", ConsulNamespace, "get", "events", "--field-selector=type!=Normal")
	logs, _ := e.Kubectl(ctx, "-n", ConsulNamespace, "logs", "-l", "app=consul", "--prefix", "--tail=25")
	return strings.Join([]string{pods, events, logs}, "\n")
}

// RemoveConsul removes the Consul in pods with its data.
func (e *Env) RemoveConsul(ctx context.Context) error {
	_, err := e.Kubectl(ctx, "delete", "namespace", ConsulNamespace, "--ignore-not-found", "--timeout=3m")
	if err != nil {
		return err
	}
	if _, err := e.Kubectl(ctx, "delete", "persistentvolumes", "-l", "app=consul", "--timeout=1m"); err != nil {
		return err
	}
	return os.RemoveAll(e.consulDir(""))
}

// volumesPerNode is one more than the servers of a node, so that the successor of a lost server gets a volume.
const volumesPerNode = 2

// localClass is the name of the StorageClass of the volumes.
const localClass = "local"

func (e *Env) makeVolumes(ctx context.Context) error {
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	_, err := e.Kube.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        localClass,
			Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
		},
		Provisioner:       "kubernetes.io/no-provisioner",
		VolumeBindingMode: &wait,
	}, metav1.CreateOptions{})
	if ignoreExists(err) != nil {
		return fmt.Errorf("create storage class: %w", err)
	}
	return e.ReplaceVolumes(ctx)
}

// ReplaceVolumes gives each node empty volumes in place of those whose claims were deleted. Nobody else does: the cluster has no
// provisioner, and Kubernetes gives a released volume to no other claim.
func (e *Env) ReplaceVolumes(ctx context.Context) error {
	volumes, err := e.Kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{LabelSelector: "app=consul"})
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	usable := map[string]int{}
	for _, volume := range volumes.Items {
		if volume.Status.Phase != corev1.VolumeReleased {
			usable[volume.Labels[corev1.LabelHostname]]++
			continue
		}
		// Its folder stays until RemoveConsul: the lost server's process may still be ending.
		if err := e.Kube.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{}); err != nil {
			return fmt.Errorf("delete volume: %w", err)
		}
	}
	for _, node := range e.Cluster.Nodes {
		for range volumesPerNode - usable[node.Name] {
			if err := e.createVolume(ctx, node.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// createVolume creates an empty volume on a node.
func (e *Env) createVolume(ctx context.Context, node string) error {
	if err := os.MkdirAll(e.consulDir(""), 0o755); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	folder, err := os.MkdirTemp(e.consulDir(""), "consul-"+node+"-")
	if err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	_, err = e.Kube.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: filepath.Base(folder), Labels: map[string]string{"app": "consul", corev1.LabelHostname: node},
		},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName:              localClass,
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: folder}},
			NodeAffinity:                  onNode(node),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	return nil
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func onNode(name string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{
			MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{name}},
			},
		},
	}}}
}
