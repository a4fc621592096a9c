package registration

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Warning tells the author of a pod of something that is accepted but probably not meant.
type Warning struct {
	// Field of the pod that it is about, as the API machinery writes paths; empty where it is about no one field.
	Field   string
	Message string
}

func (w Warning) String() string { return w.Message }

// Origin is the annotation of another system from which one of the contract's was translated.
type Origin struct {
	Key string
	// Form of its values where the other system's is not the contract's.
	Form string
}

// Origins are the origins of a translated pod's annotations, by the contract's key. Messages name them instead of the
// contract's keys, which the author of the pod has not written.
type Origins map[string]Origin

// name is a key as the author of the pod knows it.
func (o Origins) name(key string) string {
	if from, translated := o[key]; translated {
		return from.Key
	}
	return key
}

// Lint is Parse for whoever wrote the pod: errors name the key that was meant, and warnings come with them. There is one for
// an unknown agentlet.dev/ key (with the nearest known one), a KEY.NAME whose NAME is no service, a name that DNS can't look
// up, and the like. With errors reg is what could be read, for what else may be wrong with it; nil where that is nothing.
func Lint(pod *corev1.Pod, defaults Defaults, origins Origins) (reg *Registration, warnings []Warning, errs field.ErrorList) {
	r := &reader{pod: pod, defaults: defaults, origins: origins, hints: true}
	reg = r.registration()
	if reg == nil {
		return nil, nil, r.errs
	}
	l := linter{reader: r, reg: reg, warnings: UnknownKeys(pod)}
	l.lint()
	return reg, atMost(l.warnings), r.errs
}

// linter looks for what is probably not meant in a pod that was read, even with errors.
type linter struct {
	*reader
	reg      *Registration
	warnings []Warning
}

func (l *linter) lint() {
	// What is an error is no warning.
	l.warnings = slices.DeleteFunc(l.warnings, func(w Warning) bool { return slices.Contains(l.undotted, w.Field) })
	l.lintExcluded()
	l.lintDrain()
	l.lintHeartbeat()
	l.lintHooks()
	l.lintNames()
	l.lintPortNames()
	l.lintTags()
	l.lintStrayNames()
	l.lintDefaultPort()
	l.lintHostPorts()
	l.lintNoPort()
	l.lintOwnPort()
	l.lintUDP()
	l.warnings = append(l.warnings, l.unreplaced...)
	for _, why := range l.reg.Unprobed {
		if l.reg.Settings.Readiness != contract.ReadinessProbe {
			break // nothing is lost but a moment at the start
		}
		v, _ := l.value(contract.Readiness, "")
		l.warn(annotation(contract.Readiness), "%s=%s: %s%s", contract.Readiness, contract.ReadinessProbe, why, v.note())
	}
}

func (l *linter) warn(path *field.Path, format string, args ...any) {
	l.warnings = append(l.warnings, Warning{Field: path.String(), Message: fmt.Sprintf(format, args...)})
}

// lintExcluded warns of a container that the pod excludes and doesn't have; a later webhook may still add it. A default
// is for many pods, and may name what only some of them have.
func (l *linter) lintExcluded() {
	if _, own := l.pod.Annotations[contract.ContainerExclude]; !own {
		return
	}
	path, key := annotation(contract.ContainerExclude), l.origins.name(contract.ContainerExclude)
	for _, name := range l.reg.Settings.Exclude {
		has := func(c corev1.Container) bool { return c.Name == name }
		if name == contract.ContainerName {
			l.warn(path, "%s: %q never counts, there is no need to exclude it", key, name)
		} else if !slices.ContainsFunc(l.pod.Spec.Containers, has) && !slices.ContainsFunc(l.pod.Spec.InitContainers, has) {
			l.warn(path, "%s: the pod has no container %q", key, name)
		}
	}
	if len(Counting(l.pod, l.reg.Settings.Exclude)) == 0 {
		l.warn(path, "%s: no container is left, so the pod counts as ready from its start on", key)
	}
}

// gracePath is where a pod says how long its end may take.
var gracePath = field.NewPath("spec", "terminationGracePeriodSeconds")

// lintDrain warns where the pod's grace period leaves less time to drain than it asks for, or than it needs where the period
// is shorter than Kubernetes' own.
func (l *linter) lintDrain() {
	s := &l.reg.Settings
	_, delay := l.pod.Annotations[contract.DrainDelay]
	_, timeout := l.pod.Annotations[contract.DrainTimeout]
	grace := graceSeconds(l.pod)
	share := time.Duration(min(float64(grace)*contract.DrainShareOfGrace, maxDuration.Seconds()) * float64(time.Second))
	own := delay || timeout || grace < corev1.DefaultTerminationGracePeriodSeconds
	if asked := s.DrainDelay + s.DrainTimeout; own && asked > share {
		path := gracePath
		switch {
		case delay:
			path = annotation(contract.DrainDelay)
		case timeout:
			path = annotation(contract.DrainTimeout)
		}
		l.warn(
			path,
			"%s and %s ask for %s together, but terminationGracePeriodSeconds %d leaves them %s; the rest is the application's",
			l.origins.name(contract.DrainDelay),
			l.origins.name(contract.DrainTimeout),
			short(asked),
			grace,
			short(share.Truncate(time.Second)),
		)
	}
}

// lintHeartbeat warns of a pod that would be killed before its heartbeat runs out. An agentlet that hangs sends none and leaves
// Consul by nothing else; the application goes on until the grace period ends, because its drain hooks wait for the agentlet.
func (l *linter) lintHeartbeat() {
	ttl, grace := l.reg.Settings.HeartbeatTTL, graceSeconds(l.pod)
	if ttl.Seconds() <= float64(grace) {
		return
	}
	path := gracePath
	if _, own := l.pod.Annotations[contract.HeartbeatTTL]; own {
		path = annotation(contract.HeartbeatTTL)
	}
	l.warn(path, "%s %s is longer than terminationGracePeriodSeconds %d: "+
		"if the agentlet hangs, Consul shows the pod as passing for up to %s after the pod was killed",
		l.origins.name(contract.HeartbeatTTL), short(ttl), grace, short(ttl-time.Duration(grace)*time.Second))
}

// graceSeconds is the pod's grace period. The API server makes a negative one 1.
func graceSeconds(pod *corev1.Pod) int64 {
	switch g := pod.Spec.TerminationGracePeriodSeconds; {
	case g == nil:
		return corev1.DefaultTerminationGracePeriodSeconds
	case *g < 0:
		return 1
	default:
		return *g
	}
}

// lintNames warns of each service whose name is none of a host: Consul answers it, but not every resolver asks for it.
func (l *linter) lintNames() {
	for i := range l.reg.Services {
		name := l.reg.Services[i].Name
		if at := strings.IndexAny(name, "_."); at >= 0 {
			l.warn(namePath(l.pod, i), "service %q: with %q it may not be found by DNS; use letters, digits and '-'", name, name[at])
		}
	}
}

// lintTags warns of a tag of the flat form that was most likely cut in two at a comma: it opens a bracket or a quote, and does
// not close it.
func (l *linter) lintTags() {
	if l.listed == nil {
		return
	}
	told := map[string]bool{}
	for _, asked := range l.tags {
		open := unclosed(asked.tag)
		if open == 0 || told[asked.tag] || len(told) > maxWarnings {
			continue
		}
		told[asked.tag] = true
		l.warn(asked.path, `tag %q opens %c and does not close it; a comma in a tag is written \,`, Excerpt(asked.tag), open)
	}
}

// unclosed is a bracket or a quote that a text opens and does not close; 0 where there is none. An apostrophe in a word is no
// quote.
func unclosed(text string) rune {
	closes := map[rune]rune{'(': ')', '[': ']', '{': '}'}
	var open []rune
	before := ' '
	for _, r := range text {
		last := rune(0)
		if len(open) > 0 {
			last = open[len(open)-1]
		}
		quoted := last == '"' || last == '`' || last == '\''
		switch {
		case quoted && r == last, !quoted && last != 0 && r == closes[last]:
			open = open[:len(open)-1]
		case quoted:
		case closes[r] != 0, r == '"', r == '`', r == '\'' && !unicode.IsLetter(before):
			open = append(open, r)
		}
		before = r
	}
	if len(open) == 0 {
		return 0
	}
	return open[0]
}

// lintStrayNames warns of each KEY.NAME whose NAME is none of the services of the flat form.
func (l *linter) lintStrayNames() {
	if l.listed == nil {
		return
	}
	var stray []string
	for key := range l.pod.Annotations {
		if !strings.HasPrefix(key, contract.Prefix) {
			continue
		}
		if _, name, ok := contract.Lookup(key); ok && name != "" && !slices.Contains(l.listed, name) {
			stray = append(stray, key)
		}
	}
	slices.Sort(stray)
	for _, key := range stray[:min(len(stray), maxWarnings+1)] {
		_, name, _ := contract.Lookup(key)
		l.warn(annotation(key), "annotation %s has no effect: %s names no service %q%s",
			key, l.origins.name(contract.ServiceNames), name, didYouMean(name, slices.Values(l.listed)))
	}
}

// atMost cuts a list of warnings, and says how many are left out.
func atMost(warnings []Warning) []Warning {
	if len(warnings) <= maxWarnings {
		return warnings
	}
	return append(warnings[:maxWarnings:maxWarnings], leftOut(len(warnings)-maxWarnings))
}

func leftOut(warnings int) Warning {
	return Warning{Message: fmt.Sprintf("%d more warnings are left out", warnings)}
}
