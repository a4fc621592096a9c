package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// replacement is a file of a module that is compiled in another version.
type replacement struct {
	module, file string
	// without is the beginning of a line: functions that begin so are cut out of the file.
	without string
	// instead are pairs of a text in the file and what stands there instead.
	instead [][2]string
	// content is added to what is left of the file; it is all of it if neither of the above is given.
	content string
}

// smallerClient takes methods out of client-go that one file alone calls. Each package that knows an informer compiles them for
// every kind of object that there is, 2,352 functions, which was a quarter of all the time that building Kubernetes took.
func smallerClient() []replacement {
	return []replacement{{
		module: "k8s.io/client-go", file: "tools/cache/controller.go",
		without: "func (d DeletedObject[T]) ", content: "\nvar _ = strings.Cut // keeps the import used\n",
	}}
}

// smallerKubernetes leaves out helpers of Kubernetes' own tests, which no program calls: they alone need the fake clients.
func smallerKubernetes() []replacement {
	return append(
		smallerClient(),
		replacement{
			module: "k8s.io/apiserver", file: "pkg/admission/plugin/policy/generic/policy_test_context.go",
			content: "package generic\n",
		},
		replacement{module: "k8s.io/kubernetes", file: "pkg/scheduler/backend/queue/testing.go", content: "package queue\n"},
		replacement{
			module: "k8s.io/dynamic-resource-allocation", file: "resourceslice/tracker/tracker.go",
			instead: [][2]string{
				{"klog.KObj(deletedSlice)", `klog.KRef("", deletedName(deletedSlice.FinalStateUnknown, deletedSlice.OptionalObj))`},
				{"deletedSlice.GetName()", "deletedName(deletedSlice.FinalStateUnknown, deletedSlice.OptionalObj)"},
				{"klog.KObj(deletedRule)", `klog.KRef("", deletedName(deletedRule.FinalStateUnknown, deletedRule.OptionalObj))`},
			},
			content: deletedName,
		},
	)
}

// deletedName does what the methods did for objects without a namespace.
const deletedName = `
func deletedName(unknown *cache.DeletedFinalStateUnknown, object interface{ GetName() string }) string {
	if unknown != nil {
		return unknown.Key
	}
	return object.GetName()
}
`

// smallerConsul leaves out of Consul what no cluster of these tests uses, and what most of its packages are there for. It finds
// no servers by asking a cloud: `retry_join = ["provider=…"]` fails with an error. Kubernetes' API server can be asked, as
// examples/consul does: the packages for that are compiled for Kubernetes anyway. And it lacks the Envoy types that it never
// sends itself, which it links for what users write into Envoy's configuration by hand.
func smallerConsul() []replacement {
	return smallerConsuls(replacement{module: discover + "/provider/gce", file: "gce_discover.go", content: noProvider("gce")})
}

// smallerConsulMPL does the same to the older Consul, for which that provider is no module of its own. It also completes a mock
// for the newer hcp-sdk-go that tools/consul-1.16 requires.
func smallerConsulMPL() []replacement {
	const mock = "type mockHCPCfg struct{}"
	return append(
		smallerConsuls(replacement{module: discover, file: "provider/gce/gce_discover.go", content: noProvider("gce")}),
		replacement{
			module: consul, file: "agent/hcp/client/mock_CloudConfig.go",
			instead: [][2]string{{mock, mock + "\n\nfunc (*mockHCPCfg) Logout() error { return nil }"}},
		},
	)
}

const (
	consul   = "github.com/hashicorp/consul"
	discover = "github.com/hashicorp/go-discover"
)

// smallerConsuls returns what is replaced in every Consul, with the given one.
func smallerConsuls(gce replacement) []replacement {
	replaced := []replacement{
		{module: consul, file: "agent/xds/z_xds_packages.go", content: "package xds\n"},
		{module: consul + "/troubleshoot", file: "proxy/z_xds_packages.go", content: "package troubleshoot\n"},
		gce,
	}
	for _, name := range []string{
		"aliyun", "aws", "azure", "digitalocean", "linode", "os", "packet", "scaleway", "softlayer", "tencentcloud",
		"triton", "vsphere",
	} {
		file := path.Join("provider", name, name+"_discover.go")
		replaced = append(replaced, replacement{module: discover, file: file, content: noProvider(name)})
	}
	return replaced
}

// noProvider is the source of a provider of go-discover that finds nothing.
func noProvider(name string) string {
	return fmt.Sprintf(`package %s

import (
	"errors"
	"log"
)

type Provider struct{}

func (*Provider) Addrs(map[string]string, *log.Logger) ([]string, error) {
	return nil, errors.New(%s)
}

func (*Provider) Help() string { return "" }
`, name, strconv.Quote("discover-"+name+": left out of this build of Consul"))
}

// apply makes the new version of the file. What it is to change has to be there: in another version of the module it may not.
func (r replacement) apply(source string) (string, error) {
	if r.without == "" && len(r.instead) == 0 {
		return r.content, nil
	}
	if r.without != "" {
		kept, cut := withoutFunctions(source, r.without)
		if cut == 0 {
			return "", fmt.Errorf("no function begins with %q", r.without)
		}
		source = kept
	}
	for _, pair := range r.instead {
		if !strings.Contains(source, pair[0]) {
			return "", fmt.Errorf("no text %q", pair[0])
		}
		source = strings.ReplaceAll(source, pair[0], pair[1])
	}
	return source + r.content, nil
}

// withoutFunctions cuts the functions out of a formatted source whose first line begins so, and counts them.
func withoutFunctions(source, beginning string) (kept string, cut int) {
	var out strings.Builder
	inside := false
	for line := range strings.Lines(source) {
		if strings.HasPrefix(line, beginning) {
			inside = true
			cut++
		}
		if !inside {
			out.WriteString(line)
		} else if strings.HasPrefix(line, "}") {
			inside = false
		}
	}
	return out.String(), cut
}

// replaceFiles makes in dir what `go build` needs to compile the other versions of files, and returns the flag for it: a go.mod
// that takes their modules from folders, which hold links to everything else. (Go's -overlay refuses files of its module cache.)
// With -trimpath the packages that stay the same are those of other builds: go knows them by their module's version.
func (b *build) replaceFiles(ctx context.Context, dir string) ([]string, error) {
	if len(b.replaced) == 0 {
		return nil, nil
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return nil, fmt.Errorf("read module: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("copy module: %w", err)
		}
	}
	modules, err := b.moduleDirs(ctx)
	if err != nil {
		return nil, err
	}
	edit := []string{"mod", "edit"}
	for module, original := range modules {
		folder := filepath.Join(dir, strings.ReplaceAll(module, "/", "_"))
		if err := linkTree(original, folder, b.files(module)); err != nil {
			return nil, fmt.Errorf("replace files of %s: %w", module, err)
		}
		edit = append(edit, "-replace="+module+"="+folder)
	}
	file := filepath.Join(dir, "go.mod")
	command := exec.CommandContext(ctx, "go", append(edit, file)...)
	command.Env = buildEnv()
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go mod edit: %w: %s", err, out)
	}
	return []string{"-modfile=" + file}, nil
}

// files are the replaced files of a module, by their paths.
func (s set) files(module string) map[string]replacement {
	files := map[string]replacement{}
	for _, r := range s.replaced {
		if r.module == module {
			files[r.file] = r
		}
	}
	return files
}

// linkTree makes a folder of links to what is in another, but for some files, which are replaced. To replace a file that a new
// version of the module doesn't have is an error.
func linkTree(from, to string, files map[string]replacement) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	below := map[string]map[string]replacement{} // the entries of this folder that are no mere links
	for file, r := range files {
		first, rest, _ := strings.Cut(file, "/")
		if below[first] == nil {
			below[first] = map[string]replacement{}
		}
		below[first][rest] = r
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("list folder: %w", err)
	}
	for _, entry := range entries {
		original, link := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		inside, changed := below[entry.Name()]
		delete(below, entry.Name())
		switch r, file := inside[""]; {
		case !changed:
			err = os.Symlink(original, link)
		case file:
			err = r.write(original, link)
		default:
			err = linkTree(original, link, inside)
		}
		if err != nil {
			return err
		}
	}
	for name := range below {
		return fmt.Errorf("find %s: %w", filepath.Join(from, name), os.ErrNotExist)
	}
	return nil
}

// write writes the new version of a file.
func (r replacement) write(from, to string) error {
	source, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	content, err := r.apply(string(source))
	if err != nil {
		return fmt.Errorf("change %s: %w", from, err)
	}
	if err := os.WriteFile(to, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// moduleDirs loads the modules of which files are replaced, and maps each to its folder.
func (b *build) moduleDirs(ctx context.Context) (map[string]string, error) {
	dirs := map[string]string{}
	args := []string{"mod", "download", "-json"}
	for _, r := range b.replaced {
		if _, again := dirs[r.module]; !again {
			dirs[r.module] = ""
			args = append(args, r.module)
		}
	}
	download := exec.CommandContext(ctx, "go", args...)
	download.Dir, download.Env = b.source, buildEnv()
	out, err := download.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w: %s", err, out)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var module struct{ Path, Dir string }
		if err := decoder.Decode(&module); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, fmt.Errorf("decode what go mod download says: %w", err)
		}
		dirs[module.Path] = module.Dir
	}
}
