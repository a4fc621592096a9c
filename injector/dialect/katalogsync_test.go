package dialect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestFromKatalogSync(t *testing.T) {
	type services = []registration.Service
	for name, test := range map[string]struct {
		pod  annotations
		want services
	}{
		"one":                {annotations{"service-names": "web"}, services{{Name: "web", Port: 8080}}},
		"several":            {annotations{"service-names": "web, api"}, services{{Name: "web", Port: 8080}, {Name: "api", Port: 8080}}},
		"port":               {annotations{"service-names": "web", "service-port": "65535"}, services{{Name: "web", Port: 65535}}},
		"port by name":       {annotations{"service-names": "web", "service-port": "admin"}, services{{Name: "web", Port: 9090}}},
		"port of one":        {annotations{"service-names": "web,api", "service-port": "1", "service-port-api": "2"}, services{{Name: "web", Port: 1}, {Name: "api", Port: 2}}},
		"a name with a dash": {annotations{"service-names": "my-web.v1", "service-port-my-web.v1": "2"}, services{{Name: "my-web.v1", Port: 2}}},
		"the longest name":   {annotations{"service-names": strings.Repeat("a", 48), "service-health-" + strings.Repeat("a", 48): "warning"}, services{{Name: strings.Repeat("a", 48), Port: 8080, Health: contract.Warning}}},
		"tags":               {annotations{"service-names": "web", "service-tags": `a, b c,\d,a`}, services{{Name: "web", Port: 8080, Tags: []string{"a", "b c", `\d`}}}},
		"tags of one":        {annotations{"service-names": "web,api", "service-tags": "a", "service-tags-api": "b"}, services{{Name: "web", Port: 8080, Tags: []string{"a"}}, {Name: "api", Port: 8080, Tags: []string{"b"}}}},
		"meta":               {annotations{"service-names": "web", "service-meta": "a:b, c : d,url:http://x"}, services{{Name: "web", Port: 8080, Meta: map[string]string{"a": "b", "c": "d", "url": "http://x"}}}},
		"meta of one":        {annotations{"service-names": "web,api", "service-meta": "a:b", "service-meta-api": "a:c"}, services{{Name: "web", Port: 8080, Meta: map[string]string{"a": "b"}}, {Name: "api", Port: 8080, Meta: map[string]string{"a": "c"}}}},
		"health":             {annotations{"service-names": "web,api", "service-health": "passing", "service-health-api": "critical"}, services{{Name: "web", Port: 8080, Health: contract.Passing}, {Name: "api", Port: 8080, Health: contract.Critical}}},
		"no health":          {annotations{"service-names": "web", "service-health": ""}, services{{Name: "web", Port: 8080}}},
		"no health of one":   {annotations{"service-names": "web,api", "service-health": "warning", "service-health-api": ""}, services{{Name: "web", Port: 8080, Health: contract.Warning}, {Name: "api", Port: 8080, Health: contract.Warning}}},
		"health of one":      {annotations{"service-names": "web,api", "service-health": "", "service-health-api": "warning"}, services{{Name: "web", Port: 8080}, {Name: "api", Port: 8080, Health: contract.Warning}}},
		"no tags":            {annotations{"service-names": "web", "service-tags": ""}, services{{Name: "web", Port: 8080}}},
		"the longest of all": {annotations{"service-names": strings.Repeat("a", 63)}, services{{Name: strings.Repeat("a", 63), Port: 8080}}},
		"our port wins":      {annotations{"service-names": "web", "service-port": "bad", contract.ServicePort: "1"}, services{{Name: "web", Port: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, parsed(t, test.pod).Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		})
	}
}

func parsed(t *testing.T, pod annotations) *registration.Registration {
	t.Helper()
	return services(t, pod.pod(), KatalogSync)
}

func TestSettingsFromKatalogSync(t *testing.T) {
	for name, test := range map[string]struct {
		pod     annotations
		ttl     time.Duration
		exclude []string
	}{
		"none":               {annotations{}, 30 * time.Second, nil},
		"TTL":                {annotations{"service-check-ttl": "20s"}, 20 * time.Second, nil},
		"least TTL":          {annotations{"service-check-ttl": "3s"}, 3 * time.Second, nil},
		"most TTL":           {annotations{"service-check-ttl": "2m"}, 2 * time.Minute, nil},
		"our TTL wins":       {annotations{"service-check-ttl": "20s", contract.HeartbeatTTL: "5s"}, 5 * time.Second, nil},
		"exclude":            {annotations{"container-exclude": "a, b"}, 30 * time.Second, []string{"a", "b"}},
		"exclude nothing":    {annotations{"container-exclude": ""}, 30 * time.Second, nil},
		"sidecar":            {annotations{"sidecar": " s "}, 30 * time.Second, []string{"s"}},
		"both":               {annotations{"container-exclude": "a,b", "sidecar": "s"}, 30 * time.Second, []string{"a", "b", "s"}},
		"sidecar, and empty": {annotations{"container-exclude": " ", "sidecar": "s"}, 30 * time.Second, []string{"s"}},
		"ours wins":          {annotations{"container-exclude": "a", "sidecar": "s", contract.ContainerExclude: "c"}, 30 * time.Second, []string{"c"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.pod["service-names"] = "web"
			got := parsed(t, test.pod).Settings
			if got.HeartbeatTTL != test.ttl || cmp.Diff(test.exclude, got.Exclude) != "" {
				t.Errorf("TTL %s, excluded %q", got.HeartbeatTTL, got.Exclude)
			}
		})
	}
}

func TestErrorsOfKatalogSync(t *testing.T) {
	const p = katalogPrefix
	for name, test := range map[string]struct {
		pod  annotations
		want []string
	}{
		"no name":            {annotations{"service-names": ""}, []string{p + "service-names: must be comma-separated service names"}},
		"bad name":           {annotations{"service-names": "a/b"}, []string{p + `service-names: Invalid value: "a/b"`}},
		"twice":              {annotations{"service-names": "web,WEB"}, []string{p + "service-names: Duplicate value"}},
		"a long name":        {annotations{"service-names": strings.Repeat("a", 64)}, []string{p + "service-names: a service name has at most 63 characters"}},
		"meta twice":         {annotations{"service-meta": "a:b,a:c"}, []string{p + `service-meta: the key "a" is there twice`}},
		"a blank for health": {annotations{"service-health": " "}, []string{p + `service-health: Invalid value: " "`}},
		"port 0":             {annotations{"service-port": "0"}, []string{p + `service-port: "0": must be a port number`}},
		"port 65536":         {annotations{"service-port-web": "65536"}, []string{p + `service-port-web: "65536"`}},
		"unknown port":       {annotations{"service-port": "gone"}, []string{p + `service-port: no container declares a port "gone"`}},
		"an empty tag":       {annotations{"service-tags": "a,"}, []string{p + "service-tags: must be comma-separated tags: one of the items is empty"}},
		"backslash":          {annotations{"service-tags-web": `a\,b`}, []string{p + "service-tags-web: without a backslash before a comma"}},
		"backslash in meta":  {annotations{"service-meta": `a:b\,c:d`}, []string{p + "service-meta: without a backslash before a comma"}},
		"no colon":           {annotations{"service-meta": "a"}, []string{p + `service-meta: must be key:value,key:value: "a" has no colon`}},
		"reserved meta":      {annotations{"service-meta": "external-source:x"}, []string{p + "service-meta: is set by agentlet"}},
		"health":             {annotations{"service-health": "good"}, []string{p + "service-health: must be passing, warning or critical"}},
		"TTL":                {annotations{"service-check-ttl": "2999ms"}, []string{p + "service-check-ttl: at least 3s"}},
		"no duration":        {annotations{"service-check-ttl": "20"}, []string{p + `service-check-ttl: Invalid value: "20": must be a duration`}},
		"TTL over our other": {annotations{"service-check-ttl": "121s"}, []string{contract.DeregisterAfter + ": must not be less than " + p + "service-check-ttl"}},
		"excluded":           {annotations{"container-exclude": "a,,b"}, []string{p + "container-exclude: one of the items is empty"}},
		"excluded, sidecar":  {annotations{"container-exclude": "a,,b", "sidecar": "s"}, []string{p + `container-exclude: Invalid value: "a,,b"`}},
		"no sidecar":         {annotations{"sidecar": ""}, []string{p + "sidecar: must be the name of a container"}},
		"two sidecars":       {annotations{"sidecar": "a,b"}, []string{p + "sidecar: must be the name of a container"}},
		"own errors":         {annotations{contract.Gate: "ajar"}, []string{contract.Gate + ": must be passing"}},
		"all at once":        {annotations{"service-port": "x y", "service-health": "good", "sidecar": ""}, []string{p + "sidecar", p + "service-port", p + "service-health"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, there := test.pod["service-names"]; !there {
				test.pod["service-names"] = "web"
			}
			wantErrors(t, errorsOf(test.pod.pod(), KatalogSync), test.want...)
		})
	}
	undeclared := annotations{"service-names": "web"}.pod()
	undeclared.Spec.Containers[0].Ports = nil
	wantErrors(t, errorsOf(undeclared, KatalogSync), p+"service-port: Required value")
}

func TestWarningsOfKatalogSync(t *testing.T) {
	many := annotations{}
	for i := range 30 {
		many[fmt.Sprintf("nothing-%d", i)] = ""
	}
	for name, test := range map[string]struct {
		pod  annotations
		want []string
	}{
		"no counterpart":       {annotations{"sync-interval": "nonsense"}, []string{"sync-interval has no effect: nothing polls"}},
		"sidecar":              {annotations{"sidecar": "s"}, []string{`container "s" is ready only while katalog-sync runs`}},
		"a name that isn't":    {annotations{"service-port-api": "x"}, []string{`names no service "api"`}},
		"no health of another": {annotations{"service-health-api": ""}, []string{`names no service "api"`}},
		"an unknown key":       {annotations{"service-prot": "x"}, []string{"service-prot is not known"}},
		"an empty name":        {annotations{"service-port-": "x"}, []string{"service-port- is not known"}},
		"a name of their keys": {annotations{"service-tags": "a", "service-tags-web": "b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			test.pod["service-names"] = "web"
			translation, _ := read(test.pod.pod(), KatalogSync)
			wantWarnings(t, translation.Warnings, test.want...)
		})
	}
	many["service-names"] = "web"
	if translation, _ := read(many.pod(), KatalogSync); len(translation.Warnings) != maxWarnings+1 {
		t.Errorf("%d warnings, want no more than %d", len(translation.Warnings), maxWarnings+1)
	}
}
