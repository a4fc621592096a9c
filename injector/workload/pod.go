package workload

import (
	"encoding/json"
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Bounds on a pod, in addition to those of the decoder's caller.
const (
	// MaxContainers bounds the containers of a pod, init containers included. No node runs a pod with nearly as many.
	MaxContainers = 128
	// maxAnnotations is the API server's bound on the annotations of an object, keys and values, in bytes.
	maxAnnotations = 256 << 10
	// maxQuantity and maxExponent bound the text of a quantity, and what follows its e: a sign and two digits. What the API
	// server writes is shorter.
	maxQuantity = 64
	maxExponent = 3
)

// PodFields has the fields of a pod's JSON, or of a template's, that the injector reads. It differs from Kubernetes' own type
// in two ways, because any client may have sent the JSON: it doesn't compute quantities, whose time and memory grow with the
// power of ten in the text, and an item of a list takes little memory.
type PodFields struct {
	metav1.TypeMeta
	Metadata struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		InitContainers   []*container                  `json:"initContainers"`
		Containers       []*container                  `json:"containers"`
		Volumes          []volume                      `json:"volumes"`
		ReadinessGates   []corev1.PodReadinessGate     `json:"readinessGates"`
		ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`
		Resources        *resources                    `json:"resources"`
		NodeSelector     map[string]string             `json:"nodeSelector"`
		Affinity         *affinity                     `json:"affinity"`
		OS               *corev1.PodOS                 `json:"os"`
		SecurityContext  *securityContext              `json:"securityContext"`
		RestartPolicy    corev1.RestartPolicy          `json:"restartPolicy"`
		HostNetwork      bool                          `json:"hostNetwork"`

		TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds"`
	} `json:"spec"`
}

type container struct {
	Name           string                         `json:"name"`
	Args           []string                       `json:"args"`
	Env            []variable                     `json:"env"`
	Ports          []corev1.ContainerPort         `json:"ports"`
	Resources      *resources                     `json:"resources"`
	Lifecycle      *corev1.Lifecycle              `json:"lifecycle"`
	ReadinessProbe *corev1.Probe                  `json:"readinessProbe"`
	StartupProbe   *corev1.Probe                  `json:"startupProbe"`
	RestartPolicy  *corev1.ContainerRestartPolicy `json:"restartPolicy"`

	SecurityContext *securityContext `json:"securityContext"`
}

// securityContext of a container, or of the pod as a whole: the fields that differ between Windows and Linux, and the pod's user.
type securityContext struct {
	RunAsUser      *int64 `json:"runAsUser"`
	WindowsOptions *struct {
		HostProcess *bool `json:"hostProcess"`
	} `json:"windowsOptions"`
}

// variable of an environment. Of its source only the presence is read.
type variable struct {
	Name      string    `json:"name"`
	Value     string    `json:"value"`
	ValueFrom *struct{} `json:"valueFrom"`
}

// resources of a container, or of the pod as a whole. No others are read.
type resources struct {
	Limits   quantities `json:"limits"`
	Requests quantities `json:"requests"`
}

// quantities in their text form; nil where there is none.
type quantities struct {
	CPU    json.RawMessage `json:"cpu"`
	Memory json.RawMessage `json:"memory"`
}

type affinity struct {
	NodeAffinity *struct {
		Required *corev1.NodeSelector `json:"requiredDuringSchedulingIgnoredDuringExecution"`
	} `json:"nodeAffinity"`
}

// volume with the sources of injected ones. They are decoded only where the name is that of an injected one.
type volume struct {
	Name      string          `json:"name"`
	Projected json.RawMessage `json:"projected"`
	EmptyDir  json.RawMessage `json:"emptyDir"`
}

type projected struct {
	DefaultMode *int32 `json:"defaultMode"`
	Sources     []struct {
		Secret              *corev1.SecretProjection              `json:"secret"`
		ConfigMap           *corev1.ConfigMapProjection           `json:"configMap"`
		ServiceAccountToken *corev1.ServiceAccountTokenProjection `json:"serviceAccountToken"`
		DownwardAPI         *struct {
			Items []struct {
				Path     string                      `json:"path"`
				FieldRef *corev1.ObjectFieldSelector `json:"fieldRef"`
				Mode     *int32                      `json:"mode"`
			} `json:"items"`
		} `json:"downwardAPI"`
	} `json:"sources"`
}

type emptyDir struct {
	Medium    corev1.StorageMedium `json:"medium"`
	SizeLimit json.RawMessage      `json:"sizeLimit"`
}

// Pod returns the fields in Kubernetes' own type, or all errors for which the API server would reject the pod. The pod shares
// memory with f.
func (f *PodFields) Pod() (*corev1.Pod, error) {
	if errs := f.tooMuch(); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	var r reading
	pod := &corev1.Pod{
		TypeMeta: f.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name: f.Metadata.Name, GenerateName: f.Metadata.GenerateName, Labels: f.Metadata.Labels, Annotations: f.Metadata.Annotations,
		},
		Spec: corev1.PodSpec{
			InitContainers:   r.containers("initContainers", f.Spec.InitContainers),
			Containers:       r.containers("containers", f.Spec.Containers),
			Volumes:          r.volumes(f.Spec.Volumes),
			ReadinessGates:   f.Spec.ReadinessGates,
			ImagePullSecrets: f.Spec.ImagePullSecrets,
			NodeSelector:     f.Spec.NodeSelector,
			Affinity:         f.Spec.Affinity.affinity(),
			OS:               f.Spec.OS,
			RestartPolicy:    f.Spec.RestartPolicy,
			HostNetwork:      f.Spec.HostNetwork,

			TerminationGracePeriodSeconds: f.Spec.TerminationGracePeriodSeconds,
		},
	}
	if c := f.Spec.SecurityContext; c != nil && (c.WindowsOptions != nil || c.RunAsUser != nil) {
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: c.RunAsUser, WindowsOptions: c.windowsOptions()}
	}
	if f.Spec.Resources != nil {
		pod.Spec.Resources = &corev1.ResourceRequirements{}
		r.requirements(func() *field.Path { return spec }, f.Spec.Resources, pod.Spec.Resources)
	}
	return pod, r.errs.ToAggregate()
}

// tooMuch returns an error for each bound that the pod exceeds.
func (f *PodFields) tooMuch() (errs field.ErrorList) {
	size := 0
	for key, value := range f.Metadata.Annotations {
		size += len(key) + len(value)
	}
	if size > maxAnnotations {
		errs = append(errs, field.TooLong(field.NewPath("metadata", "annotations"), "", maxAnnotations))
	}
	if n := len(f.Spec.Containers) + len(f.Spec.InitContainers); n > MaxContainers {
		errs = append(errs, field.TooMany(spec.Child("containers"), n, MaxContainers))
	}
	return errs
}

func (a *affinity) affinity() *corev1.Affinity {
	if a == nil || a.NodeAffinity == nil {
		return nil
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: a.NodeAffinity.Required,
	}}
}

func (c *securityContext) windowsOptions() *corev1.WindowsSecurityContextOptions {
	if c == nil || c.WindowsOptions == nil {
		return nil
	}
	return &corev1.WindowsSecurityContextOptions{HostProcess: c.WindowsOptions.HostProcess}
}

// spec is the path of the specification.
var spec = field.NewPath("spec")

// reading converts fields into Kubernetes' types and collects errors. Paths are functions, because most are never needed.
type reading struct{ errs field.ErrorList }

func (r *reading) containers(list string, from []*container) []corev1.Container {
	if from == nil {
		return nil
	}
	containers := make([]corev1.Container, len(from))
	for i, c := range from {
		if c == nil {
			continue // the API server will report it
		}
		containers[i] = corev1.Container{
			Name: c.Name, Args: c.Args, Env: environment(c.Env), Ports: c.Ports, Lifecycle: c.Lifecycle,
			ReadinessProbe: c.ReadinessProbe, StartupProbe: c.StartupProbe, RestartPolicy: c.RestartPolicy,
		}
		if options := c.SecurityContext.windowsOptions(); options != nil {
			containers[i].SecurityContext = &corev1.SecurityContext{WindowsOptions: options}
		}
		if c.Resources != nil {
			r.requirements(func() *field.Path { return spec.Child(list).Index(i) }, c.Resources, &containers[i].Resources)
		}
	}
	return containers
}

func environment(from []variable) []corev1.EnvVar {
	if from == nil {
		return nil
	}
	env := make([]corev1.EnvVar, len(from))
	for i := range from {
		env[i].Name, env[i].Value = from[i].Name, from[i].Value
		if from[i].ValueFrom != nil {
			env[i].ValueFrom = &elsewhere
		}
	}
	return env
}

// elsewhere is the source of each variable that has any.
var elsewhere corev1.EnvVarSource

func (r *reading) volumes(from []volume) []corev1.Volume {
	if from == nil {
		return nil
	}
	volumes := make([]corev1.Volume, len(from))
	for i := range from {
		volumes[i].Name = from[i].Name
		switch volumes[i].Name {
		case contract.VolumeName, contract.ProxyVolumeName, contract.ProxyScratchName, contract.ProxyTokenName:
			at := spec.Child("volumes").Index(i)
			volumes[i].EmptyDir = r.emptyDir(at.Child("emptyDir"), from[i].EmptyDir)
			volumes[i].Projected = r.projected(at.Child("projected"), from[i].Projected)
		}
	}
	return volumes
}

func (r *reading) emptyDir(at *field.Path, raw json.RawMessage) *corev1.EmptyDirVolumeSource {
	var from *emptyDir
	if decode(r, at, raw, &from); from == nil {
		return nil
	}
	source := &corev1.EmptyDirVolumeSource{Medium: from.Medium}
	if q, ok := r.quantity(func() *field.Path { return at.Child("sizeLimit") }, from.SizeLimit); ok {
		source.SizeLimit = &q
	}
	return source
}

func (r *reading) projected(at *field.Path, raw json.RawMessage) *corev1.ProjectedVolumeSource {
	var from *projected
	if decode(r, at, raw, &from); from == nil {
		return nil
	}
	source := &corev1.ProjectedVolumeSource{
		DefaultMode: from.DefaultMode, Sources: make([]corev1.VolumeProjection, len(from.Sources)),
	}
	for i := range from.Sources {
		s, to := &from.Sources[i], &source.Sources[i]
		to.Secret, to.ConfigMap, to.ServiceAccountToken = s.Secret, s.ConfigMap, s.ServiceAccountToken
		if s.DownwardAPI == nil {
			continue
		}
		to.DownwardAPI = &corev1.DownwardAPIProjection{}
		for _, item := range s.DownwardAPI.Items {
			to.DownwardAPI.Items = append(to.DownwardAPI.Items,
				corev1.DownwardAPIVolumeFile{Path: item.Path, FieldRef: item.FieldRef, Mode: item.Mode})
		}
	}
	return source
}

func decode[T any](r *reading, at *field.Path, raw json.RawMessage, into *T) {
	if raw == nil {
		return
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, into); err != nil {
		r.errs = append(r.errs, field.Invalid(at, field.OmitValueType{}, err.Error()))
	}
}

// requirements converts those of a container, or of the pod, at this path.
func (r *reading) requirements(at func() *field.Path, from *resources, into *corev1.ResourceRequirements) {
	for _, one := range [...]struct {
		list string
		from *quantities
		into *corev1.ResourceList
	}{{"limits", &from.Limits, &into.Limits}, {"requests", &from.Requests, &into.Requests}} {
		r.put(at, one.list, corev1.ResourceCPU, one.from.CPU, one.into)
		r.put(at, one.list, corev1.ResourceMemory, one.from.Memory, one.into)
	}
}

// put adds a quantity to a list, if there is one.
func (r *reading) put(at func() *field.Path, list string, name corev1.ResourceName, raw json.RawMessage,
	into *corev1.ResourceList,
) {
	q, ok := r.quantity(func() *field.Path { return at().Child("resources", list, string(name)) }, raw)
	if !ok {
		return
	}
	if *into == nil {
		*into = make(corev1.ResourceList, 2)
	}
	(*into)[name] = q
}

// quantity parses a quantity; ok is false where there is none, or it is invalid.
func (r *reading) quantity(at func() *field.Path, raw json.RawMessage) (q resource.Quantity, ok bool) {
	if raw == nil {
		return q, false
	}
	q, err := parseQuantity(raw)
	if err != nil {
		r.errs = append(r.errs, field.Invalid(at(), strings.Trim(string(raw[:min(len(raw), maxQuantity)]), `"`), err.Error()))
		return q, false
	}
	return q, true
}

var errQuantity = errors.New("must be a quantity such as 250m or 64Mi")

// parseQuantity parses a quantity in a JSON string or number; null is zero, as in Kubernetes. It checks the form first, because
// the time of ParseQuantity grows with the exponent.
func parseQuantity(raw json.RawMessage) (resource.Quantity, error) {
	if len(raw) > maxQuantity {
		return resource.Quantity{}, errQuantity
	}
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if text == "null" {
		return resource.Quantity{}, nil
	}
	if at := strings.IndexAny(text, "eE"); at >= 0 && len(text)-at-1 > maxExponent {
		return resource.Quantity{}, errQuantity
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return resource.Quantity{}, errQuantity
	}
	return q, nil
}
