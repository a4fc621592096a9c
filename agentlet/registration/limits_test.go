package registration

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestHostileAnnotations holds that what Parse costs does not depend on what people write. Each case took seconds or
// gigabytes without the limits.
func TestHostileAnnotations(t *testing.T) {
	repeat := func(n int, format string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(items, ",")
	}
	stray := map[string]string{contract.ServiceNames: repeat(30, "service-%d"), contract.ServicePort: "80"}
	for i := range 1500 {
		stray[fmt.Sprintf("%s.stray-%d", contract.ServicePort, i)] = "80"
	}
	flat := func(pairs ...string) map[string]string {
		annotations := map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}
		for i := 0; i+1 < len(pairs); i += 2 {
			annotations[pairs[i]] = pairs[i+1]
		}
		return annotations
	}
	cases := map[string]struct {
		annotations map[string]string
		says        string // of the first error; empty where there is none
	}{
		"a quantity with an exponent":      {flat(contract.CPURequest, "1e300000000"), "a quantity"},
		"a quantity that can't be divided": {flat(contract.CPURequest, "1e2147483647"), "a quantity"},
		"a huge quantity":                  {flat(contract.MemoryLimit, "100000000E"), "a quantity"},
		"too much text":                    {flat(contract.ServiceTags, strings.Repeat("a", maxText)), "must not hold more than"},
		"too many services":                {flat(contract.ServiceNames, repeat(MaxServices+1, "s%d")), "must not have more than 32"},
		"as many services as may be":       {flat(contract.ServiceNames, repeat(MaxServices, "s%d")), ""},
		"too many tags":                    {flat(contract.ServiceTags, repeat(maxItems+1, "t%d")), "must not have more than 64"},
		"as many tags as may be":           {flat(contract.ServiceTags, repeat(maxItems, "t%d")), ""},
		"too many labels":                  {flat(contract.MetaFromLabels, repeat(maxItems+1, "l%d")), "must not have more than 64"},
		"stray keys":                       {stray, ""},
		"a list of what is no service":     {map[string]string{contract.Services: "[" + strings.Repeat("1,", 3000) + "1]"}, "must have at most 64"},
		"more values than there are":       {map[string]string{contract.Services: "[" + strings.Repeat("1,", maxMarks) + "1]"}, "must not have more than 4096"},
		"lists in lists":                   {map[string]string{contract.Services: strings.Repeat("[", maxMarks+1)}, "must not have more than 4096"},
		"lists in lists, by dashes":        {map[string]string{contract.Services: strings.Repeat("- ", maxMarks+1)}, "must not have more than 4096"},
		"keys in keys":                     {map[string]string{contract.Services: strings.Repeat("? ", maxMarks+1)}, "must not have more than 4096"},
		"too many checks": {map[string]string{
			contract.Services: "[{name: web, port: 80, checks: [" + repeat(maxChecks+1, "{tcp: ':1', interval: 1%ds}") + "]}]",
		}, "must have at most 16"},
		"too many keys":           {map[string]string{contract.Services: "[{" + repeat(2*maxItems, "k%d: 1") + "}]"}, "must have at most 64"},
		"a tag with a line break": {flat(contract.ServiceTags, "a\nb"), "control character"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, warnings, errs := Lint(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: c.annotations}}, nil, nil)
			switch {
			case c.says == "" && len(errs) > 0:
				t.Errorf("refused: %v", errs)
			case c.says != "" && (len(errs) == 0 || !strings.Contains(errs[0].Error(), c.says)):
				t.Errorf("the errors are %.300v, want the first to say %q", errs, c.says)
			}
			if len(errs) > maxErrors+1 || len(warnings) > 2*maxWarnings+2 {
				t.Errorf("%d errors and %d warnings", len(errs), len(warnings))
			}
		})
	}
}

func TestManyErrorsEndWithAWord(t *testing.T) {
	bad := "[" + strings.TrimSuffix(strings.Repeat("{port: x},", MaxServices), ",") + "]"
	_, errs := Parse(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.Services: bad}}}, nil)
	if len(errs) != maxErrors+1 || !strings.Contains(errs[maxErrors].Error(), "more errors") {
		t.Errorf("%d errors, the last %v", len(errs), errs[len(errs)-1])
	}
}

// A key that has no effect is compared with all known ones, which is not done for more than are told.
func TestUnknownKeysTakeNoMoreThanIsTold(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}, Labels: map[string]string{}}}
	for i := range 5000 {
		pod.Annotations[fmt.Sprintf("%sservice-nam%d", contract.Prefix, i)] = ""
		pod.Labels[fmt.Sprintf("%sservice-nam%d", contract.Prefix, i)] = ""
	}
	if warnings := UnknownKeys(pod); len(warnings) != maxWarnings+1 || warnings[maxWarnings].Message != "9980 more warnings are left out" {
		t.Errorf("%d warnings, the last %q", len(warnings), warnings[len(warnings)-1])
	}
	one := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{contract.Prefix + "service-nam": ""}}}
	each := testing.AllocsPerRun(10, func() { UnknownKeys(one) })
	if all := testing.AllocsPerRun(2, func() { UnknownKeys(pod) }); all > 2*maxWarnings*each {
		t.Errorf("10,000 keys take %.0f allocations, and one takes %.0f", all, each)
	}
}
