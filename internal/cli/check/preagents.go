package check

import (
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// consulAgents are the pods of one DaemonSet that run Consul agents, by its manifest.
type consulAgents struct {
	set       *appsv1.DaemonSet
	container *corev1.Container
	// arguments are the container's command and arguments in one text; config is the text of its ConfigMaps. Both are without
	// comments.
	arguments, config string
	// unread is why a ConfigMap could not be read, or nothing.
	unread string
}

func (a *consulAgents) subject() string { return "daemonset/" + a.set.Namespace + "/" + a.set.Name }

// missing is how many nodes have none of its pods, or one that is not ready.
func (a *consulAgents) missing() int {
	return int(a.set.Status.DesiredNumberScheduled - a.set.Status.NumberReady)
}

// byHashiCorp reports whether an object is of HashiCorp's chart.
func byHashiCorp(labels map[string]string) bool { return labels["chart"] == "consul-helm" }

// hostNetworkValues are the values of HashiCorp's chart that put its client agents into the node's network.
const hostNetworkValues = "client.hostNetwork=true and client.dnsPolicy=ClusterFirstWithHostNet"

// runsAgent finds `consul agent` in a command.
var runsAgent = regexp.MustCompile(`(^|[\s/])consul\s+agent\b`)

// agentContainer returns the container of a pod that runs a Consul agent, or nil.
func agentContainer(spec *corev1.PodSpec) *corev1.Container {
	for i := range spec.Containers {
		c := &spec.Containers[i]
		image, _, _ := strings.Cut(path.Base(c.Image), "@")
		image, _, _ = strings.Cut(image, ":")
		ours := image == "consul" || image == "consul-enterprise"
		if runsAgent.MatchString(words(c)) || ours && len(c.Command) == 0 && len(c.Args) > 0 && c.Args[0] == "agent" {
			return c
		}
	}
	return nil
}

// words is a container's command with its arguments.
func words(c *corev1.Container) string {
	return strings.Join(slices.Concat(c.Command, c.Args), " ")
}

// reached reports whether a pod's container is reached at the node's IP and this port, by its manifest.
func reached(spec *corev1.PodSpec, container *corev1.Container, port int) bool {
	return spec.HostNetwork ||
		slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return int(p.HostPort) == port })
}

// comment is one of a line of HCL or of a shell's script, and not the slashes or the fragment of an address.
var comment = regexp.MustCompile(`(?m)(^|[ \t])(#|//).*$`)

// uncommented is a text without what is commented out.
func uncommented(text string) string { return comment.ReplaceAllString(text, "") }

// setting returns the last value of a boolean or word in Consul's configuration, as HCL or JSON.
func setting(key, text string) string {
	found := regexp.MustCompile(`\b`+key+`"?\s*[=:]\s*"?([^\s"',}\\]+)`).FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1][1]
}

// manifests looks at the DaemonSets that run Consul agents.
func (r *preRun) manifests(ctx context.Context) {
	list, err := r.Kube.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		r.add(Skip, "consul", "", "can't read the DaemonSets of Consul agents: "+err.Error(), "")
		return
	}
	for i := range list.Items {
		set := &list.Items[i]
		container := agentContainer(&set.Spec.Template.Spec)
		if container == nil {
			continue
		}
		agents := &consulAgents{set: set, container: container, arguments: uncommented(words(container))}
		r.readConfig(ctx, agents)
		r.agents = append(r.agents, agents)
		for _, look := range []func(*consulAgents){r.rollout, r.port, r.leaves, r.data, r.address, r.priority} {
			look(agents)
		}
	}
}

// readConfig reads the ConfigMaps that the agents mount.
func (r *preRun) readConfig(ctx context.Context, a *consulAgents) {
	var names []string
	for _, volume := range a.set.Spec.Template.Spec.Volumes {
		if volume.ConfigMap != nil {
			names = append(names, volume.ConfigMap.Name)
		}
		if volume.Projected != nil {
			for _, source := range volume.Projected.Sources {
				if source.ConfigMap != nil {
					names = append(names, source.ConfigMap.Name)
				}
			}
		}
	}
	var text strings.Builder
	for _, name := range names {
		m, err := r.Kube.CoreV1().ConfigMaps(a.set.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			a.unread = err.Error()
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) { // as Consul reads a folder
			text.WriteString(m.Data[key] + "\n")
		}
	}
	a.config = uncommented(text.String())
}

// rollout reports nodes without an agent, and why the agents may not be there.
func (r *preRun) rollout(a *consulAgents) {
	missing := a.missing()
	if missing <= 0 {
		r.add(OK, "consul", a.subject(), "its Consul agents are ready on "+printer.Count(int(a.set.Status.NumberReady), "node"), "")
		return
	}
	text := fmt.Sprintf("%d of %s are not ready", missing, printer.Count(int(a.set.Status.DesiredNumberScheduled), "Consul agent"))
	remedy := fmt.Sprintf("kubectl -n %s describe daemonset %s, and its pods", a.set.Namespace, a.set.Name)
	if namespace := r.facts.namespaces[a.set.Namespace]; namespace != nil {
		if level := namespace.Labels[enforceLabel]; level == "baseline" || level == "restricted" {
			text += ": their namespace enforces the Pod Security Standard " + level +
				", which refuses host ports, the node's network and its disk"
			remedy = fmt.Sprintf("kubectl label namespace %s %s=privileged --overwrite", a.set.Namespace, enforceLabel)
		}
	}
	r.add(Fail, "consul", a.subject(), text, remedy)
}

// listens is any setting of the addresses that an agent listens at.
var listens = regexp.MustCompile(`-client\b|\bclient_addr\b|\baddresses\b`)

// port reports agents that can't be reached at the node's IP.
func (r *preRun) port(a *consulAgents) {
	port, spec := r.consulPort(), &a.set.Spec.Template.Spec
	const tls = 8501
	isTLS := setting("https", a.arguments) == "8501" || reached(spec, a.container, tls)
	switch {
	case r.consulScheme() == "http" && setting("http", a.arguments) == "-1",
		port != tls && isTLS && !reached(spec, a.container, port):
		r.add(Fail, "consul", a.subject(),
			fmt.Sprintf("its Consul agents answer by HTTPS at port 8501, and not by HTTP at port %d", port),
			"install Agentlet with consul.scheme=https, consul.port=8501 and consul.tls.ca, and check with --consul-scheme=https "+
				"--consul-port=8501; or have HashiCorp's chart set global.tls.httpsOnly=false")
	case !reached(spec, a.container, port):
		r.add(Fail, "consul", a.subject(),
			fmt.Sprintf("its Consul agents are not reached at the node's IP, port %d: they have neither hostNetwork nor this hostPort",
				port),
			fmt.Sprintf("set hostNetwork: true, or hostPort: %d; with HashiCorp's chart set %s", port, hostNetworkValues))
	case a.unread == "" && !listens.MatchString(a.arguments+"\n"+a.config):
		r.add(Warn, "consul", a.subject(),
			"no client_addr is seen in its arguments and ConfigMaps: by default Consul listens at 127.0.0.1 alone",
			"set client_addr, or -client, to the node's IP; HashiCorp's chart sets -client=0.0.0.0")
	}
	if r.consulScheme() == "https" {
		r.add(OK, "consul", a.subject(), "with TLS pods need the authority of its Consul agents: set consul.tls.ca; "+
			"HashiCorp's chart has it in the Secret "+strings.TrimSuffix(a.set.Name, "-client")+"-ca-cert, key tls.crt, or that of "+
			"global.tls.caCert", "")
	}
}

// isServer reports whether the agents are servers, by their manifest.
func (a *consulAgents) isServer() bool {
	return serverFlag.MatchString(a.arguments) || setting("server", a.arguments+"\n"+a.config) == "true"
}

var serverFlag = regexp.MustCompile(`(^|\s)-server(=true)?(\s|$)`)

// leaves reports agents that leave the cluster when they are restarted, by their manifest.
func (r *preRun) leaves(a *consulAgents) {
	value, from := setting("leave_on_terminate", a.arguments), "its arguments"
	if value == "" {
		value, from = setting("leave_on_terminate", a.config), "a ConfigMap"
	}
	const effect = "a restart of a Consul agent takes every instance of its node out of the catalog"
	switch {
	case value == "false":
		r.add(OK, "consul", a.subject(), "leave_on_terminate is off, by "+from, "")
	case value == "true":
		r.add(Warn, "consul", a.subject(), "leave_on_terminate is on, by "+from+": "+effect, leaveRemedy)
	case a.isServer():
		r.add(OK, "consul", a.subject(), "leave_on_terminate is off, by default for servers", "")
	case a.unread != "":
		r.add(Skip, "consul", a.subject(), "can't see whether leave_on_terminate is on: "+a.unread, "")
	default:
		r.add(Warn, "consul", a.subject(),
			"leave_on_terminate is not set in its arguments and ConfigMaps, and is on by default: "+effect, leaveRemedy)
	}
}

// dataDir is the argument with the folder for the agent's data.
var dataDir = regexp.MustCompile(`-data-dir[= ]"?([^\s"]+)`)

// data reports agents that lose their data with their pods.
func (r *preRun) data(a *consulAgents) {
	folder := setting("data_dir", a.config)
	if found := dataDir.FindStringSubmatch(a.arguments); found != nil {
		folder = found[1]
	}
	if folder == "" {
		return // elsewhere, such as in a Secret
	}
	volume, longest := "", -1
	for _, mount := range a.container.VolumeMounts {
		if at := path.Clean(mount.MountPath); len(at) > longest && (folder == at || strings.HasPrefix(folder, at+"/")) {
			volume, longest = mount.Name, len(at)
		}
	}
	if slices.ContainsFunc(a.set.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == volume && v.EmptyDir == nil
	}) {
		return
	}
	r.add(Warn, "consul", a.subject(),
		"the data of its Consul agents is lost with each pod: an agent comes back with another node ID, and without its services",
		"mount a hostPath at "+folder+"; with HashiCorp's chart set client.dataDirectoryHostPath=/var/lib/consul")
}

// advertises is the argument with the address that the agent tells others; the usual form is a variable.
var advertises = regexp.MustCompile(`-advertise[= ]["']?\$[{(]?(\w+)`)

// address reports agents that Consul knows by their pod's IP.
func (r *preRun) address(a *consulAgents) {
	if a.set.Spec.Template.Spec.HostNetwork {
		return
	}
	found := advertises.FindStringSubmatch(a.arguments)
	if found == nil {
		if strings.Contains(a.arguments, "-advertise") || setting("advertise_addr", a.config) != "" || a.unread != "" {
			return // in a form that is not understood here
		}
	} else if slices.ContainsFunc(a.container.Env, func(e corev1.EnvVar) bool {
		from := e.ValueFrom
		return e.Name == found[1] && from != nil && from.FieldRef != nil && from.FieldRef.FieldPath == "status.hostIP"
	}) {
		return
	}
	r.add(Warn, "consul", a.subject(),
		"its Consul agents advertise their pod's IP: each new pod of an agent has another address, and where it has not left, others "+
			"take the node for failed for a while",
		"run them in the node's network; with HashiCorp's chart set "+hostNetworkValues+", or client.exposeGossipPorts=true")
}

// priority reports agents that may be evicted before the pods that need them.
func (r *preRun) priority(a *consulAgents) {
	if a.set.Spec.Template.Spec.PriorityClassName == "" {
		r.add(Warn, "consul", a.subject(),
			"its Consul agents have no priority class: they may be evicted, or ended at a node's shutdown, before the node's other pods",
			"set priorityClassName: system-node-critical; with HashiCorp's chart set client.priorityClassName=system-node-critical")
	}
}

// acls reports whether ACLs are on, and whether HashiCorp's chart manages the agents' tokens, by their manifest.
func (a *consulAgents) acls() (on, managed bool) {
	managed = byHashiCorp(a.set.Spec.Template.Labels) &&
		slices.ContainsFunc(a.set.Spec.Template.Spec.InitContainers,
			func(c corev1.Container) bool { return c.Name == "client-acl-init" })
	return managed || aclBlock.MatchString(a.arguments+a.config), managed
}

// aclBlock is an ACL system that is on, in HCL or JSON.
var aclBlock = regexp.MustCompile(`\bacl"?\s*[=:]?\s*\{[^{}]*\benabled"?\s*[=:]\s*true`)
