package registration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// PreStop is a container's own preStop hook of a kind that the agentlet can run itself.
type PreStop struct {
	// HTTPGet is nil for a hook that sleeps.
	HTTPGet *corev1.HTTPGetAction
	// Host is empty for the pod's IP, or a loopback address of a pod on its host's network. Port is a number, looked up among the
	// container's own.
	Host string
	Port int

	Sleep time.Duration
}

// The path of a drain hook that is chained holds the container's own hook as its fragment, as JSON. A client sends no fragment,
// so the hook stays in the pod: the agentlet reads it there, and calls nothing that a request names. It is with the container,
// so that it isn't lost where the agentlet is taken out of a pod that is created again.
const fragment = "#"

// DrainPath is the path of a drain hook, after which the agentlet runs the container's own hook; nil: there is none.
func DrainPath(own *corev1.LifecycleHandler) string {
	if own == nil {
		return contract.DrainPath
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(own) // strings and numbers can always be
	return contract.DrainPath + fragment + strings.ReplaceAll(strings.TrimSpace(text.String()), "%", "%25")
}

// IsDrainHook reports whether a preStop hook was injected.
func IsDrainHook(h *corev1.LifecycleHandler) bool {
	if h == nil || h.HTTPGet == nil {
		return false
	}
	if path, _, _ := strings.Cut(h.HTTPGet.Path, fragment); path != contract.DrainPath && !Rewritten(h.HTTPGet) {
		return false
	}
	for _, header := range h.HTTPGet.HTTPHeaders {
		if header.Name == contract.NonceHeader {
			return true
		}
	}
	return false
}

// Rewritten reports whether Istio has its own agent answer this preStop hook, which asks the hook's own port in turn. Istio's
// injector does so since 1.25. It replaces path and port, and keeps the headers.
func Rewritten(get *corev1.HTTPGetAction) bool {
	return strings.HasPrefix(get.Path, "/app-lifecycle/") && strings.HasSuffix(get.Path, "/prestopz")
}

// OwnHook returns a container's own preStop hook, also where an injected hook holds it; nil where it has none, and where Istio
// has rewritten the one that holds it.
func OwnHook(c *corev1.Container) *corev1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	if !IsDrainHook(c.Lifecycle.PreStop) {
		return c.Lifecycle.PreStop
	}
	_, text, found := strings.Cut(c.Lifecycle.PreStop.HTTPGet.Path, fragment)
	own := &corev1.LifecycleHandler{}
	if !found || json.Unmarshal([]byte(strings.ReplaceAll(text, "%25", "%")), own) != nil {
		return nil
	}
	return own
}

// Chained returns the own hooks that drain hooks of a pod hold, by container. Those that the agentlet can't run are left out: the
// injector chains none.
func Chained(pod *corev1.Pod) (hooks map[string]PreStop) {
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		own := OwnHook(c)
		if own == nil || !IsDrainHook(c.Lifecycle.PreStop) {
			continue
		}
		if hook, err := ReadPreStop(pod, c, own); err == nil {
			if hooks == nil {
				hooks = map[string]PreStop{}
			}
			hooks[c.Name] = hook
		}
	}
	return hooks
}

// ReadPreStop turns a container's own hook into one that the agentlet can run; the error says why it can't. A hook that the API
// server refuses is an error, too: once it is chained, nobody would check it.
func ReadPreStop(pod *corev1.Pod, c *corev1.Container, own *corev1.LifecycleHandler) (hook PreStop, err error) {
	switch {
	case own.Exec != nil:
		return hook, errors.New("it is an exec hook")
	case own.TCPSocket != nil || (own.HTTPGet != nil) == (own.Sleep != nil):
		return hook, errors.New("it is of a kind that this version does not know")
	case own.Sleep != nil:
		if grace := graceSeconds(pod); own.Sleep.Seconds < 0 || own.Sleep.Seconds > grace {
			return hook, fmt.Errorf("its sleep of %d seconds is not between 0 and terminationGracePeriodSeconds, %d",
				own.Sleep.Seconds, grace)
		}
		return PreStop{Sleep: time.Duration(min(own.Sleep.Seconds, int64(maxDuration/time.Second))) * time.Second}, nil
	}
	get := own.HTTPGet
	if get.Scheme != "" && get.Scheme != corev1.URISchemeHTTP && get.Scheme != corev1.URISchemeHTTPS {
		return hook, fmt.Errorf("its scheme %q is not HTTP or HTTPS", Excerpt(string(get.Scheme)))
	}
	for i := range get.HTTPHeaders {
		if name := get.HTTPHeaders[i].Name; len(validation.IsHTTPHeaderName(name)) > 0 {
			return hook, fmt.Errorf("%q is no name of a header", Excerpt(name))
		}
	}
	hook.HTTPGet = get
	hook.Host, hook.Port, err = target(pod, c, get.Host, get.Port)
	return hook, err
}

// lintHooks warns of a container's own hook that leaves it no time after SIGTERM.
func (l *linter) lintHooks() {
	s := &l.reg.Settings
	if s.DrainHook != contract.DrainHookChain {
		return
	}
	grace := time.Duration(min(graceSeconds(l.pod), int64(maxDuration/time.Second))) * time.Second
	delay := min(s.DrainDelay, time.Duration(float64(grace)*contract.DrainShareOfGrace))
	for i := range l.pod.Spec.Containers {
		c := &l.pod.Spec.Containers[i]
		own := OwnHook(c)
		if own == nil {
			continue
		}
		if hook, err := ReadPreStop(l.pod, c, own); err == nil && hook.Sleep > 0 && delay+hook.Sleep >= grace {
			l.warn(
				field.NewPath("spec", "containers").Index(i).Child("lifecycle", "preStop"),
				"container %q: %s and the sleep of its own preStop hook are %s together, and terminationGracePeriodSeconds is %d: "+
					"it is killed without time to shut down",
				c.Name,
				l.origins.name(contract.DrainDelay),
				short(delay+hook.Sleep),
				graceSeconds(l.pod),
			)
		}
	}
}
