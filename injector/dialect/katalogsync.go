package dialect

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const katalogPrefix = "katalog-sync.wish.com/"

// Keys of katalog-sync that the code refers to.
const (
	katalogNames    = katalogPrefix + "service-names"
	katalogExclude  = katalogPrefix + "container-exclude"
	katalogSidecar  = katalogPrefix + "sidecar"
	katalogInterval = katalogPrefix + "sync-interval"
	katalogHealth   = katalogPrefix + "service-health"
)

// Forms of katalog-sync's lists, which have no escape for a comma.
const (
	katalogTags = "comma-separated tags"
	katalogMeta = "key:value,key:value"
)

const katalogTagsDoc = "blanks and repeated tags go; an empty tag is an error"

// maxName is the contract's bound on a service's name, which neither of the systems has.
var maxName = strconv.Itoa(contract.MaxServiceName)

var katalogSync = translator{
	asks:      func(annotations map[string]string) bool { return has(annotations, katalogNames) },
	translate: fromKatalogSync,
	lead:      katalogNames, prefix: katalogPrefix,
	gate: katalogPrefix + "synced",
	keys: katalogKeys,
}

var katalogKeys = []Key{
	{
		Name: katalogNames,
		Ours: contract.ServiceNames,
		Doc:  "an error: more than " + maxName + " characters, a name twice",
	},
	{
		Name: katalogPrefix + "service-port",
		Ours: contract.ServicePort,
		Doc:  "or a declared port's name; required where the pod declares none",
	},
	{Name: katalogPrefix + "service-port-NAME", Ours: contract.ServicePort + ".NAME"},
	{Name: katalogPrefix + "service-tags", Ours: contract.ServiceTags, Form: katalogTags, Doc: katalogTagsDoc},
	{Name: katalogPrefix + "service-tags-NAME", Ours: contract.ServiceTags + ".NAME", Form: katalogTags},
	{
		Name: katalogPrefix + "service-meta",
		Ours: contract.ServiceMeta,
		Form: katalogMeta,
		Doc:  "an error: no colon, a key twice",
	},
	{Name: katalogPrefix + "service-meta-NAME", Ours: contract.ServiceMeta + ".NAME", Form: katalogMeta},
	{Name: katalogHealth, Ours: contract.ServiceHealth},
	{Name: katalogHealth + "-NAME", Ours: contract.ServiceHealth + ".NAME"},
	{
		Name: katalogPrefix + "service-check-ttl",
		Ours: contract.HeartbeatTTL,
		Doc:  "at least 3s",
	},
	{Name: katalogExclude, Ours: contract.ContainerExclude},
	{
		Name: katalogSidecar,
		Ours: contract.ContainerExclude,
		Doc:  "is excluded; take it out before katalog-sync ends (step 6)",
	},
	{Name: katalogInterval, Doc: "nothing polls"},
}

var errEscapedComma = errors.New(`it holds \, which is a backslash and a new item to katalog-sync, and a comma to agentlet`)

// maxItems bounds the work on a list that hasn't been validated yet. No list of a pod or a service may have as many.
const maxItems = 256

// fromKatalogSync translates annotations with service-names. All values keep their form, so that an error can quote the
// original annotation.
func fromKatalogSync(annotations map[string]string) Translation {
	var t Translation
	// A pod may not have as many services.
	names := strings.SplitN(annotations[katalogNames], ",", maxItems)
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	var stray []registration.Warning
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, katalogPrefix) {
			continue
		}
		k, service := katalogKey(key)
		switch {
		case k == nil:
			stray = append(stray, warning(key, "annotation %s is not known, and not translated", key))
		case key == katalogSidecar: // with container-exclude, below
		case key == katalogInterval:
			t.warn(key, "annotation %s has no effect: nothing polls, an agentlet writes a change of its pod at once", key)
		case service != "" && !slices.Contains(names, service):
			stray = append(stray, warning(key, "annotation %s has no effect: %s names no service %q", key, katalogNames, service))
		case annotations[key] == "" && strings.HasPrefix(key, katalogHealth): // is none to katalog-sync
		default:
			t.carry(annotations, key, k, service)
		}
	}
	t.excludeSidecar(annotations)
	t.Warnings = append(t.Warnings, atMost(stray)...)
	if port := katalogPrefix + "service-port"; !has(annotations, port) {
		t.source(annotation(contract.ServicePort), port, annotations)
	}
	return t
}

// katalogKey finds the description of a key, or nil; service is the NAME of KEY-NAME.
func katalogKey(key string) (k *Key, service string) {
	for i := range katalogKeys {
		k := &katalogKeys[i]
		prefix, perService := strings.CutSuffix(k.Name, "NAME")
		switch {
		case !perService && key == k.Name:
			return k, ""
		case perService && strings.HasPrefix(key, prefix) && len(key) > len(prefix):
			return k, key[len(prefix):]
		}
	}
	return nil, ""
}

// carry translates one key and keeps its value.
func (t *Translation) carry(annotations map[string]string, key string, k *Key, service string) {
	value, ours := annotations[key], strings.TrimSuffix(k.Ours, "NAME")+service
	if strings.Contains(value, `\,`) &&
		(strings.HasPrefix(ours, contract.ServiceTags) || strings.HasPrefix(ours, contract.ServiceMeta)) {
		t.Errors = append(t.Errors,
			invalid(key, value, "must be comma-separated, without a backslash before a comma: "+errEscapedComma.Error()))
		return
	}
	t.add(annotations, ours, value, registration.Origin{Key: key, Form: k.Form})
}

// excludeSidecar excludes katalog-sync's own sidecar from the pod's readiness, as katalog-sync does. The sidecar is ready only
// once the pod is registered, so waiting for it would be a deadlock.
func (t *Translation) excludeSidecar(annotations map[string]string) {
	sidecar, ok := annotations[katalogSidecar]
	if !ok {
		return
	}
	sidecar = strings.TrimSpace(sidecar)
	if sidecar == "" || strings.Contains(sidecar, ",") {
		t.Errors = append(t.Errors, invalid(katalogSidecar, annotations[katalogSidecar], "must be the name of a container"))
		return
	}
	if excluded := strings.TrimSpace(annotations[katalogExclude]); excluded != "" {
		if own, translated := t.Annotations[contract.ContainerExclude]; translated {
			t.Annotations[contract.ContainerExclude] = own + "," + sidecar
		}
	} else {
		delete(t.Annotations, contract.ContainerExclude)
		t.add(annotations, contract.ContainerExclude, sidecar, registration.Origin{Key: katalogSidecar})
	}
	t.warn(katalogSidecar,
		"annotation %s: container %q is ready only while katalog-sync runs; take it out of the template before that ends, or no pod becomes Ready",
		katalogSidecar, sidecar)
}

func invalid(key, value, detail string) *field.Error {
	return field.Invalid(annotation(key), registration.Excerpt(value), detail)
}
