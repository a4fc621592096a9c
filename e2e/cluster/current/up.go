package current

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Up brings the image, Consul and Agentlet into the cluster. It refuses a cluster in which something of them is there already,
// and has changed nothing then. If it fails later, Down removes what it has made; made says that there is something to remove.
func (c *Cluster) Up(ctx context.Context, o Options) (made bool, err error) {
	fmt.Fprintf(c.log, "context %s, API server %s\n", c.Context, c.Server)
	way, err := o.method(c.Context)
	if err != nil {
		return false, err
	}
	if err := requirePrograms(way); err != nil {
		return false, err
	}
	before, err := c.look(ctx)
	if err != nil {
		return false, err
	}
	architecture, err := before.check()
	if err != nil {
		return false, err
	}
	fmt.Fprintf(c.log, "made there, and removed in the end: the release %s, namespaces with the label %s, ports %d and %d of the nodes\n",
		Release, Label, ConsulPort, gossipPort)
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"bring the image", func(ctx context.Context) error { return c.bringImage(ctx, o, way, architecture) }},
		{"run Consul in pods", func(ctx context.Context) error {
			if made, err = c.claim(ctx); err != nil {
				return err
			}
			return c.installConsul(ctx)
		}},
		{"install the chart", c.installChart},
	} {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return made, fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(c.log, "  %-28s %6.1fs\n", step.name, time.Since(began).Seconds())
	}
	return made, nil
}

// requirePrograms returns an error if a program is missing that is called.
func requirePrograms(way method) error {
	programs := []string{"kubectl", "helm"}
	if way.load != nil {
		programs = append(programs, way.load[0])
	}
	var errs []error
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// runAnnotation is on the first namespace that a run makes. Its value is of that run alone.
const runAnnotation = "agentlet.test/run"

// confirmTimeout is for the question whether an interrupted creation made something.
const confirmTimeout = 10 * time.Second

// claim makes Consul's namespace. Of two runs that have looked at the same time only one makes it, and removes it in the end.
// After an error, made says whether the namespace is there and of this run: an interruption or a lost answer doesn't tell.
func (c *Cluster) claim(ctx context.Context) (made bool, err error) {
	run := rand.Text()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: ConsulNamespace, Labels: map[string]string{Label: parts}, Annotations: map[string]string{runAnnotation: run},
	}}
	_, err = c.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err == nil {
		return true, nil
	}
	err = fmt.Errorf("create namespace: %w", err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
	defer cancel()
	there, errGet := c.Kube.CoreV1().Namespaces().Get(ctx, ConsulNamespace, metav1.GetOptions{})
	switch {
	case errGet == nil:
		return there.Annotations[runAnnotation] == run, err
	case apierrors.IsNotFound(errGet):
		return false, err
	}
	return false, errors.Join(err, fmt.Errorf("the namespace %s may be there nevertheless; %s removes it: %w", ConsulNamespace, Remove, errGet))
}

// CreateNamespace creates a namespace, or returns an error if it is there.
func (c *Cluster) CreateNamespace(ctx context.Context, name string, labels map[string]string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	return nil
}

// installChart installs this tree's chart. Its webhooks look at labelled namespaces only.
func (c *Cluster) installChart(ctx context.Context) error {
	if err := c.CreateNamespace(ctx, SystemNamespace, map[string]string{Label: parts}); err != nil {
		return err
	}
	values, err := json.Marshal(map[string]any{
		"image":  imageValues(c.Image),
		"certs":  map[string]any{"source": "self-signed"},
		"consul": map[string]any{"port": ConsulPort},
		"webhook": map[string]any{
			"namespaceSelector": map[string]any{"matchLabels": map[string]string{Label: Applications}},
		},
	})
	if err != nil {
		return fmt.Errorf("encode values: %w", err)
	}
	err = c.helm(ctx, string(values), "install", Release, c.Root+"/charts/agentlet", "--wait", "--timeout=5m", "--values=-")
	if err != nil {
		return errors.Join(err, errors.New(c.describe(ctx, SystemNamespace)))
	}
	return nil
}

// imageValues returns the chart's values for an image NAME:TAG or NAME:TAG@DIGEST.
func imageValues(reference string) map[string]string {
	reference, digest, _ := strings.Cut(reference, "@")
	colon := strings.LastIndex(reference, ":")
	return map[string]string{"repository": reference[:colon], "tag": reference[colon+1:], "digest": digest}
}
