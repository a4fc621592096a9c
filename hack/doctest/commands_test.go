package doctest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/agentlet/agentlet/internal/pkitest"
)

// run runs a block in the repository's folder, without a cluster, with our plugin on the PATH.
func run(t *testing.T, block Block) {
	kubectl := program(t, "AGENTLET_TEST_KUBECTL")
	path := filepath.Dir(plugin(t)) + ":" + filepath.Dir(kubectl) + ":" + os.Getenv("PATH")
	out, err := output(t, root, []string{"PATH=" + path, "KUBECONFIG=/dev/null"}, "bash", "-euo", "pipefail", "-c", block.Text)
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// check makes each command's program verify its subcommand and flags.
func check(t *testing.T, block Block) {
	if err := wrong(t, block.Text); err != nil {
		t.Error(err)
	}
}

// TestInlineCommands tests the commands in inline code.
func TestInlineCommands(t *testing.T) {
	found := 0
	for _, page := range all(t) {
		for _, code := range page.Code {
			name, _, more := strings.Cut(code.Text, " ")
			if _, known := checks[name]; !known || !more {
				continue
			}
			found++
			t.Run(page.Path+":"+code.Text, func(t *testing.T) { check(t, Block{Page: page.Path, Line: code.Line, Text: code.Text}) })
		}
	}
	if found < 20 {
		t.Errorf("%d commands were found", found)
	}
}

// TestScripts tests the scripts that pages show, or lead to.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/consul/*.sh"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			check(t, Block{Page: "docs/consul/" + filepath.Base(file), Line: 1, Text: string(text)})
		})
	}
}

func TestWrongCommandsAreFound(t *testing.T) {
	for _, command := range []string{
		"kubectl gte pods", "kubectl get --bogus", "kubectl create nothing x", "echo x | kubectl rollout restrat deployment/web",
		"kubectl agentlet chekc", "X=$(kubectl agentlet check --bogus)", "kubectl agentlet explain --dialect",
		"go run github.com/agentlet/agentlet/hack/cmd/nothing",
		"helm instal x charts/agentlet", "helm install x charts/agentlet --bogus", "helm install x charts/agentlet --set consul.port=1",
		"helm install x charts/agentlet --set image.repository=x --set consul.prot=1",
		"helm upgrade x charts/agentlet --set=consul.port=x", "make nothing", "make e2e RUNN=x", "consul nothing", "consul acl nothing", "consul acl policy crate -name x", "consul acl policy create -bogus", "kubectl exec web --bogus -- ls", "kubectl exec web -- consul nothing",
		"xargs -n1 consul services deregister -bogus", "go run ./cmd/nothing", "nothing", "kubectl get (",
		"kind create clutser", "kind load image-archive x --cluster y", "k3d image",
	} {
		t.Run(command, func(t *testing.T) {
			if wrong(t, command) == nil {
				t.Error("nothing is found wrong")
			}
		})
	}
}

// checks are the programs whose arguments are checked, each with its test.
var checks = map[string]func(t *testing.T, args []string) error{
	"kubectl": checkKubectl, "helm": checkHelm, "make": checkMake, "consul": checkConsul, "go": checkGo,
	"kind": checkForm(kindForms), "k3d": checkForm(k3dForms),
}

// The commands of programs that are not here, and the flags that pages may give them.
var (
	kindForms = map[string][]string{
		"create cluster": {"--config", "--name"}, "load image-archive": {"--name"}, "delete cluster": {"--name"},
	}
	k3dForms = map[string][]string{"cluster create": {"--agents"}, "image import": {"--cluster"}, "cluster delete": nil}
)

// checkForm checks commands of two words, and their flags.
func checkForm(forms map[string][]string) func(t *testing.T, args []string) error {
	return func(_ *testing.T, args []string) error {
		name := strings.Join(args[:min(len(args), 2)], " ")
		flags, known := forms[name]
		if !known {
			return fmt.Errorf("not one of %q", slices.Sorted(maps.Keys(forms)))
		}
		for _, arg := range args {
			if flag, _, _ := strings.Cut(arg, "="); strings.HasPrefix(flag, "-") && !slices.Contains(flags, flag) {
				return fmt.Errorf("%s has no %s", name, flag)
			}
		}
		return nil
	}
}

// others are further programs that pages may use, and shell built-ins.
var others = []string{
	"[", "argocd", "base64", "bash", "cat", "cd", "chmod", "cosign", "crane", "curl", "date", "docker", "echo", "eval", "flux", "jq", "mkdir", "openssl", "rm", "sed",
	"sha256sum", "tar", "xargs",
}

// wrong returns the errors in the commands of a shell script.
func wrong(t *testing.T, script string) error {
	t.Helper()
	commands, err := Commands(script)
	if err != nil {
		return err
	}
	var errs []error
	for _, words := range commands {
		said := strings.Join(words, " ")
		if try, known := checks[words[0]]; known && len(words) > 1 {
			if err := try(t, words[1:]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", said, err))
			}
		} else if !slices.Contains(others, words[0]) {
			errs = append(errs, fmt.Errorf("%s: not a program that the pages may use", said))
		}
	}
	return errors.Join(errs...)
}

// plugin returns the path of kubectl-agentlet, built once from this tree.
func plugin(t *testing.T) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

var (
	scratch string // a folder for the whole test run
	built   = sync.OnceValues(func() (string, error) {
		file := filepath.Join(scratch, "kubectl-agentlet")
		return file, build(file)
	})
)

// usage matches the line of a help text that names the command.
var usage = regexp.MustCompile(`(?m)^\s+((?:kubectl|helm)[ a-z-]*)`)

// checkCobra makes a cobra program parse its flags, and returns an error unless it shows the help of the given subcommand.
func checkCobra(t *testing.T, file string, args []string) error {
	t.Helper()
	out, err := output(t, t.TempDir(), []string{"KUBECONFIG=/dev/null"}, file, append(slices.Clone(args), "--help")...)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	_, after, _ := strings.Cut(out, "Usage:")
	match := usage.FindStringSubmatch(after)
	if match == nil {
		return fmt.Errorf("its help says no usage: %s", out)
	}
	// If the program lists subcommands, the words after the one that was found are none of them.
	path := strings.Fields(match[1])
	next := slices.Index(args, path[len(path)-1]) + 1
	if strings.Contains(out, "Available Commands:") && next < len(args) && !strings.HasPrefix(args[next], "-") {
		return fmt.Errorf("%s has no %s", strings.Join(path, " "), args[next])
	}
	return nil
}

// checkKubectl also checks a consul command that is run in a pod.
func checkKubectl(t *testing.T, args []string) error {
	t.Helper()
	var inPod []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, inPod = args[:i], args[i+1:]
	}
	switch args[0] {
	case "agentlet":
		return checkCobra(t, plugin(t), args[1:])
	case "krew": // a plugin that is not ours
		return nil
	}
	if err := checkCobra(t, program(t, "AGENTLET_TEST_KUBECTL"), args); err != nil || len(inPod) < 2 || inPod[0] != "consul" {
		return err
	}
	return checkConsul(t, inPod[1:])
}

// checkHelm also renders the chart with the values of an installation or an upgrade.
func checkHelm(t *testing.T, args []string) error {
	t.Helper()
	helm := program(t, "AGENTLET_TEST_HELM")
	if err := checkCobra(t, helm, args); err != nil || args[0] != "install" && args[0] != "upgrade" {
		return err
	}
	template := []string{"template", "agentlet", "charts/agentlet"}
	if args[0] == "upgrade" { // with --reuse-values
		template = append(template, "--set", anImage)
	}
	for i, arg := range args {
		if arg == "--set-file" && i+1 < len(args) { // only the reader has the file
			key, _, _ := strings.Cut(args[i+1], "=")
			template = append(template, arg, key+"="+written(t, "set-file.crt", certificate(t)))
			continue
		}
		if strings.HasPrefix(arg, "--set") {
			template = append(template, arg)
			if !strings.Contains(arg, "=") {
				template = append(template, args[i+1])
			}
		}
	}
	if out, err := output(t, root, nil, helm, template...); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// certificate returns a certificate in PEM form.
func certificate(t *testing.T) string {
	t.Helper()
	made, _ := pkitest.Sign(t, &x509.Certificate{}, nil, nil)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw}))
}

// checkMake checks that the targets and variables are in the Makefile.
func checkMake(t *testing.T, args []string) error {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, arg := range args {
		name, _, variable := strings.Cut(arg, "=")
		if variable && !strings.Contains(string(makefile), "$("+name+")") && !strings.Contains(string(makefile), "$(value "+name+")") {
			return fmt.Errorf("the Makefile has no variable %s", name)
		}
		if !variable && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`:`).Match(makefile) {
			return fmt.Errorf("the Makefile has no target %s", name)
		}
	}
	return nil
}

// consulUsage matches what Consul prints where a word is none of its subcommands, at any depth: the help of the command before.
var consulUsage = regexp.MustCompile(`^Usage: consul (?:\[--version\]|(?:[a-z-]+ )+<subcommand>)`)

// checkConsul runs the command with an address at which no Consul runs, so that it only parses its flags.
func checkConsul(t *testing.T, args []string) error {
	t.Helper()
	consul := program(t, "AGENTLET_TEST_CONSUL")
	if args[0] == "agent" {
		return errors.New("an agent is not started here")
	}
	folder := t.TempDir()
	for _, name := range []string{"registrar.hcl", "method.json"} { // files that earlier commands of the page have created
		if err := os.WriteFile(filepath.Join(folder, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := output(t, folder, []string{"CONSUL_HTTP_ADDR=127.0.0.1:1"}, consul, args...)
	if err != nil && (strings.Contains(out, "flag provided but not defined") || consulUsage.MatchString(out)) {
		return errors.New(out)
	}
	return nil
}

// modules are the folders in which pages call go.
var modules = []string{"", "hack", "e2e"}

// checkGo checks that the packages of go run and go test exist, in one of the modules or by their whole path.
func checkGo(t *testing.T, args []string) error {
	t.Helper()
	for _, arg := range args {
		inModule, relative := strings.CutPrefix(arg, "./")
		inRoot, whole := strings.CutPrefix(arg, "github.com/agentlet/agentlet/")
		if strings.HasSuffix(arg, "...") || !relative && !whole {
			continue
		}
		exists := func(module string) bool {
			_, err := os.Stat(filepath.Join(root, module, inModule))
			return err == nil
		}
		if relative && !slices.ContainsFunc(modules, exists) {
			return fmt.Errorf("neither the repository nor hack nor e2e has a package %s", arg)
		}
		if _, err := os.Stat(filepath.Join(root, inRoot)); whole && err != nil {
			return fmt.Errorf("the repository has no package %s", arg)
		}
	}
	return nil
}
