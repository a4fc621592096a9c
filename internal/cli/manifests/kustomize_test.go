package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKustomize(t *testing.T) {
	for name, test := range map[string]struct{ script, want, fails string }{
		"renders":     {script: `[ "$*" = "kustomize -- overlays/prod" ] && echo "kind: Web"`, want: "kind: Web\n"},
		"is refused":  {script: `echo "error: no kustomization here" >&2; exit 1`, fails: "kubectl kustomize overlays/prod: no kustomization here"},
		"is silent":   {script: `exit 3`, fails: "exit status 3"},
		"no kubectl":  {fails: "kubectl is not on the PATH"},
		"writes junk": {script: `echo "a: b: c"`, want: "a: b: c\n"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			t.Setenv("PATH", folder+":/bin:/usr/bin")
			if test.script == "" {
				t.Setenv("PATH", folder)
			} else if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte("#!/bin/sh\n"+test.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			file, diagnostics, err := Kustomize(t.Context(), "overlays/prod")
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("want %q, got %v", test.fails, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := file.Injected(nil)
			if err != nil || string(out) != test.want || file.Name != "overlays/prod (kustomize)" || (len(diagnostics) > 0) != (name == "writes junk") {
				t.Errorf("%s: %q, %v, %v", file.Name, out, diagnostics, err)
			}
		})
	}
}
