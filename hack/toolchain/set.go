package toolchain

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Names of the tool sets.
const (
	Kubernetes = "kubernetes"
	// KubernetesOldest is the oldest supported release. Its etcd and kubectl are those of Kubernetes.
	KubernetesOldest = "kubernetes-1.30"
	Consul           = "consul"
	// ConsulMPL is the newest Consul under the Mozilla Public License that the module proxy has. Newer ones are under the Business
	// Source License.
	ConsulMPL      = "consul-1.16"
	Helm           = "helm"
	HelmUnittest   = "helm-unittest"
	CertManager    = "cert-manager"
	ConsulTemplate = "consul-template"
	CoreDNS        = "coredns"
	Prometheus     = "prometheus"
	GolangciLint   = "golangci-lint"
	Actionlint     = "actionlint"
	Govulncheck    = "govulncheck"
)

// set is a group of programs that are built from one nested module, tools/NAME.
type set struct {
	name     string
	programs []program
	// versionOf is the module whose version is linked into the programs, or empty.
	versionOf string
	// tags are build tags beside the tag tools.
	tags []string
	// names under which the only program is called: hard links to it, which its main tells apart.
	names []string
	// replaced are files of dependencies that are compiled in another version, so that less has to be compiled.
	replaced []replacement
}

type program struct{ name, pkg string }

// ownMain is the package of a program whose main package is the nested module itself.
const ownMain = "."

// own reports whether the nested module has its own sources, which then determine the build's result.
func (s set) own() bool {
	return slices.ContainsFunc(s.programs, func(p program) bool { return p.pkg == ownMain })
}

var sets = []set{
	{
		name:     Kubernetes,
		programs: []program{{"kubernetes", ownMain}},
		names: []string{
			"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "etcd",
		},
		replaced:  smallerKubernetes(),
		versionOf: "k8s.io/kubernetes",
	},
	{
		name: KubernetesOldest,
		programs: []program{
			{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
			{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{"kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"},
			{"kubelet", "k8s.io/kubernetes/cmd/kubelet"},
			{"kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"},
		},
		versionOf: "k8s.io/kubernetes",
	},
	{name: Consul, programs: []program{{"consul", "github.com/hashicorp/consul"}}, replaced: smallerConsul()},
	{name: ConsulMPL, programs: []program{{"consul", "github.com/hashicorp/consul"}}, replaced: smallerConsulMPL()},
	{name: Helm, programs: []program{{"helm", "helm.sh/helm/v4/cmd/helm"}}, replaced: smallerClient()},
	{name: HelmUnittest, programs: []program{
		{"helm-unittest", "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"},
	}},
	{name: CertManager, programs: []program{{"cert-manager", ownMain}}},
	{name: ConsulTemplate, programs: []program{{"consul-template", "github.com/hashicorp/consul-template"}}},
	{name: CoreDNS, programs: []program{{"coredns", ownMain}}},
	{
		name: Prometheus, programs: []program{{"prometheus", "github.com/prometheus/prometheus/cmd/prometheus"}},
		tags: []string{"remove_all_sd", "enable_consul_sd"}, // the other plugins would be most of the build
	},
	{name: GolangciLint, programs: []program{
		{"golangci-lint", "github.com/golangci/golangci-lint/v2/cmd/golangci-lint"},
	}},
	{name: Actionlint, programs: []program{{"actionlint", "github.com/rhysd/actionlint/cmd/actionlint"}}},
	{name: Govulncheck, programs: []program{{"govulncheck", "golang.org/x/vuln/cmd/govulncheck"}}},
}

// Names lists the tool sets that Ensure knows.
func Names() []string {
	names := make([]string, 0, len(sets))
	for _, s := range sets {
		names = append(names, s.name)
	}
	return names
}

func findSet(name string) (set, error) {
	i := slices.IndexFunc(sets, func(s set) bool { return s.name == name })
	if i < 0 {
		return set{}, fmt.Errorf("find tool set %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	return sets[i], nil
}

// ldflags returns linker flags that strip debug information, and set the version of Kubernetes' programs. Without that their
// version is v0.0.0-master, which a chart's kubeVersion rejects.
func (s set) ldflags(goMod []byte) (string, error) {
	flags := "-s -w"
	if s.versionOf == "" {
		return flags, nil
	}
	version, err := requiredVersion(goMod, s.versionOf)
	if err != nil {
		return "", err
	}
	numbers := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(numbers) < 3 {
		return "", fmt.Errorf("parse version %q of %s: want vMAJOR.MINOR.PATCH", version, s.versionOf)
	}
	const variable = " -X k8s.io/component-base/version."
	return flags + variable + "gitVersion=" + version + variable + "gitMajor=" + numbers[0] +
		variable + "gitMinor=" + numbers[1], nil
}

// requiredVersion returns the version of a module that a go.mod requires.
func requiredVersion(goMod []byte, module string) (string, error) {
	line := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(module) + `\s+(v\S+)`)
	match := line.FindSubmatch(goMod)
	if match == nil {
		return "", fmt.Errorf("find version of %s: go.mod doesn't require it", module)
	}
	return string(match[1]), nil
}

// arguments are what `go build` is told: several packages go together, so that what they share is loaded once. Each is
// then the last element of its package's path.
func (s set) arguments(ldflags, dir string) []string {
	args := []string{"-tags", s.buildTags(), "-ldflags", ldflags, "-o"}
	if len(s.programs) == 1 {
		args = append(args, path.Join(dir, s.programs[0].name))
	} else {
		args = append(args, dir+"/")
	}
	return append(args, s.packages()...)
}

func (s set) buildTags() string { return strings.Join(append([]string{"tools"}, s.tags...), ",") }

func (s set) packages() []string {
	packages := make([]string, 0, len(s.programs))
	for _, p := range s.programs {
		packages = append(packages, p.pkg)
	}
	return packages
}
