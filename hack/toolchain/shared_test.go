package toolchain

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// demoModules are the modules that the demo builds, as folders.
var demoModules = []string{".", "hack", "e2e", "hack/tools/" + Kubernetes, "hack/tools/" + Consul, "hack/tools/" + Helm}

// What most packages depend on. One of another version, and all of them are compiled twice.
var sharedModules = regexp.MustCompile(
	`^(k8s\.io/|sigs\.k8s\.io/|golang\.org/x/|google\.golang\.org/protobuf$|github\.com/go-logr/logr$|github\.com/google/gnostic-models$|go\.yaml\.in/)`)

func TestDemoBuildsOneVersionOfWhatIsShared(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile(`(?m)^(?:require )?\t?(\S+) (v\S+)(?: // indirect)?$`)
	versions, shared := map[string]map[string][]string{}, 0
	for _, module := range demoModules {
		goMod, err := os.ReadFile(filepath.Join(root, module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range required.FindAllStringSubmatch(string(goMod), -1) {
			path, version := match[1], match[2]
			if !sharedModules.MatchString(path) {
				continue
			}
			if versions[path] == nil {
				versions[path] = map[string][]string{}
			} else {
				shared++
			}
			versions[path][version] = append(versions[path][version], module)
		}
	}
	if shared < 20 {
		t.Fatalf("%d modules are required more than once: want dozens", shared)
	}
	for _, path := range slices.Sorted(maps.Keys(versions)) {
		if len(versions[path]) > 1 {
			t.Errorf("%s has several versions, %v: go get the newest of them everywhere", path, versions[path])
		}
	}
}

func TestMakefileCompilesWithTheSameFlags(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nCOMPILE := " + CompileFlags + "\n"; !strings.Contains(string(makefile), want) {
		t.Errorf("the Makefile lacks %q: what make and what Go code builds would be compiled twice", want)
	}
	for _, variable := range buildVariables {
		if flags, ok := strings.CutPrefix(variable, "GOFLAGS="); ok && !strings.Contains(flags, CompileFlags) {
			t.Errorf("GOFLAGS of the tools are %q: want them with %q", flags, CompileFlags)
		}
	}
}
