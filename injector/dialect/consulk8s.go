package dialect

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const consulPrefix = "consul.hashicorp.com/"

// Keys of consul-k8s: those of its catalog sync, which reads them on Services, and those that put a pod into its mesh.
const (
	consulName   = consulPrefix + "service-name"
	consulPort   = consulPrefix + "service-port"
	consulTags   = consulPrefix + "service-tags"
	consulWeight = consulPrefix + "service-weight"
	consulMeta   = consulPrefix + "service-meta-"
	consulSync   = consulPrefix + "service-sync"

	connectInject       = consulPrefix + "connect-inject"
	connectInjectStatus = consulPrefix + "connect-inject-status"
)

// syncedTag is the tag by which catalog sync recognizes its entries. It deregisters each instance with this tag of a service
// that it syncs, on any node, if the instance is not one of its entries.
const syncedTag = "k8s"

var consulK8s = translator{
	asks: func(annotations map[string]string) bool {
		return has(annotations, consulName) || has(annotations, consulSync)
	},
	translate: fromConsulK8s,
	lead:      consulName, prefix: consulPrefix + "service-",
	keys: []Key{
		{
			Name: consulName,
			Ours: contract.Services + ": name",
			Doc:  "required; at most " + maxName + " characters",
		},
		{
			Name: consulPort,
			Ours: contract.Services + ": port",
			Doc:  "by name, the container's port; required where the pod declares none",
		},
		{
			Name: consulTags,
			Ours: contract.Services + ": tags",
			Doc: "`" + consulPodName + "` becomes `" + contract.PlacePodName + "`, as in meta; no tag `" + syncedTag +
				"` is added; empty and repeated tags go",
		},
		{Name: consulWeight, Ours: contract.Services + ": weights.passing"},
		{Name: consulMeta + "KEY", Ours: contract.Services + ": meta.KEY"},
		{Name: consulSync, Doc: "false opts the pod out, true in"},
	},
}

// definition is a service in the contract's structured form. All scalars are strings there.
type definition struct {
	Name    string            `json:"name,omitempty"`
	Port    string            `json:"port,omitempty"`
	Tags    []string          `json:"tags,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Weights *weights          `json:"weights,omitempty"`
}

type weights struct {
	Passing string `json:"passing"`
}

// fromConsulK8s translates annotations with a name or service-sync into the structured form, which can express weights and any
// meta.
func fromConsulK8s(annotations map[string]string) Translation {
	var t Translation
	if value, ok := annotations[consulSync]; ok {
		sync, err := strconv.ParseBool(strings.TrimSpace(value))
		switch {
		case err != nil:
			t.Errors = append(t.Errors, invalid(consulSync, value, "must be true or false"))
		case !sync:
			return Translation{Left: OptedOut}
		}
	}
	if meshed(annotations) {
		t.warn(connectInject, "annotation %s: consul-k8s registers the pods of its mesh itself, so agentlet leaves this one alone",
			connectInject)
		return Translation{Left: Meshed, Warnings: t.Warnings}
	}
	service := annotation(contract.Services).Index(0)
	d := definition{Name: strings.TrimSpace(annotations[consulName]), Port: number(annotations[consulPort])}
	t.source(service.Child("name"), consulName, annotations)
	t.source(service.Child("port"), consulPort, annotations)
	d.Tags = splitTags(annotations[consulTags])
	for i := range d.Tags {
		d.Tags[i] = podName(d.Tags[i])
	}
	t.source(service.Child("tags"), consulTags, annotations)
	if slices.Contains(d.Tags, syncedTag) {
		t.warn(consulTags,
			"annotation %s: while consul-k8s' catalog sync runs, it deregisters what has the tag %q and is not its own", consulTags,
			syncedTag)
	}
	if text := annotations[consulWeight]; text != "" {
		d.Weights = &weights{Passing: strings.TrimSpace(text)}
		t.source(service.Child("weights"), consulWeight, annotations)
	}
	for key, value := range annotations {
		if len(d.Meta) == maxItems {
			break // a service may not have more
		}
		if name, ok := strings.CutPrefix(key, consulMeta); ok && name != "" {
			if d.Meta == nil {
				d.Meta = map[string]string{}
			}
			d.Meta[name] = podName(value)
			t.source(service.Child("meta").Key(name), key, annotations)
		}
	}
	t.source(service.Child("meta"), consulMeta+"KEY", annotations)
	t.add(annotations, contract.Services, encode(d), registration.Origin{Key: consulName})
	return t
}

// consulPodName is, as all of a tag or of a value of meta, the pod's name to consul-k8s, which replaces nothing else.
const consulPodName = "$POD_NAME"

func podName(text string) string {
	if text == consulPodName {
		return contract.PlacePodName
	}
	return text
}

// meshed reports whether consul-k8s' connect-inject has injected the pod, or will.
func meshed(annotations map[string]string) bool {
	asked, _ := strconv.ParseBool(strings.TrimSpace(annotations[connectInject]))
	return asked || has(annotations, connectInjectStatus)
}

// number rewrites a port in the contract's form, because consul-k8s also accepts Go's other forms of numbers. Names stay.
func number(text string) string {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 0, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return text
}

// splitTags splits at commas that have no backslash before them, and drops empty tags. It stops at maxItems, which is more than
// a service may have.
func splitTags(text string) (tags []string) {
	var tag strings.Builder
	for more := true; more && len(tags) < maxItems; {
		var item string
		item, text, more = strings.Cut(text, ",")
		if before, escaped := strings.CutSuffix(item, `\`); escaped && more {
			tag.WriteString(before + ",")
			continue
		}
		tag.WriteString(item)
		if t := strings.TrimSpace(tag.String()); t != "" {
			tags = append(tags, t)
		}
		tag.Reset()
	}
	return tags
}

// encode the service as a list in JSON, which is also YAML.
func encode(d definition) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode([]definition{d}) != nil { // strings can't fail to encode
		return ""
	}
	return strings.TrimSuffix(text.String(), "\n")
}
