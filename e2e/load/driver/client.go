package driver

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Name is the name of a driver's pod.
const Name = "driver"

// Sample is the path of the sample in its images.
const Sample = "/sample"

// Pod returns a driver's pod for a service. The image contains the sample; consulPort is that of the nodes' Consul agents.
func Pod(image, service string, consulPort int) *corev1.Pod {
	no, now := false, int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: Name, Labels: map[string]string{"app": Name}},
		Spec: corev1.PodSpec{
			EnableServiceLinks:            &no,
			AutomountServiceAccountToken:  &no,
			TerminationGracePeriodSeconds: &now,
			Containers: []corev1.Container{{
				Name: Name, Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{Sample, "drive"},
				Args:    []string{"http://$(HOST_IP):" + strconv.Itoa(consulPort), service, "$(POD_IP)"},
				Env:     []corev1.EnvVar{field("HOST_IP", "status.hostIP"), field("POD_IP", "status.podIP")},
			}},
		},
	}
}

// Client reaches a driver's pod through the API server.
type Client struct {
	Kube      kubernetes.Interface
	Namespace string
}

// proxied names the pod and its port for the API server's proxy.
var proxied = "http:" + Name + ":" + strconv.Itoa(port)

// State returns the driver's state.
func (c Client) State(ctx context.Context) (state State, err error) {
	body, err := c.Kube.CoreV1().RESTClient().Get().Namespace(c.Namespace).Resource("pods").Name(proxied).
		SubResource("proxy").Suffix("state").DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(body, &state)
	}
	if err != nil {
		return state, fmt.Errorf("read the driver's state: %w: %s", err, body)
	}
	return state, nil
}

// Load sets the number of requests per second. With 0 it returns after the last answer.
func (c Client) Load(ctx context.Context, perSecond int) error {
	body, err := c.Kube.CoreV1().RESTClient().Put().Namespace(c.Namespace).Resource("pods").Name(proxied).
		SubResource("proxy").Suffix("rate").Param("per-second", strconv.Itoa(perSecond)).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("set the driver's rate: %w: %s", err, body)
	}
	return nil
}

// Reporting returns the environment variables with which a sample reports to a driver, or to another collector.
func Reporting(collector string) []corev1.EnvVar {
	return []corev1.EnvVar{field("POD_UID", "metadata.uid"), {Name: "COLLECTOR", Value: collector}}
}

// field returns a variable with a field of the pod.
func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}
