package manifests

import (
	"path/filepath"
	"testing"
)

// FuzzInjected holds that whatever the stream is, nothing panics, a stream in which nothing is injected stays byte for
// byte, what is injected can be read, and a second pass changes nothing.
func FuzzInjected(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		f.Add([]byte(read(f, path)))
	}
	f.Add([]byte("kind: Pod\napiVersion: v1\nmetadata: {annotations: {agentlet.dev/service-names: a}}\nspec:\n  containers:\n" +
		"  - name: a\n    ports: [{containerPort: 2}]\n  - name: agentlet\n    env:\n    - name: AGENTLET_NONCE\n      value: x\n" +
		"    - {name: AGENTLET_DEFAULT_PORT, value: '1'} # renewed\n"))
	f.Add([]byte("--- {apiVersion: v1, kind: Pod, metadata: {annotations: {agentlet.dev/service-names: a}}, spec: {containers: [{name: a}]}}\n---\nx"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		once := pass(t, stream)
		if twice := pass(t, once); string(twice) != string(once) {
			t.Errorf("%q became %q, and then %q", stream, once, twice)
		}
	})
}

func pass(t *testing.T, stream []byte) []byte {
	t.Helper()
	file, diagnostics := Parse("in", stream)
	judgements := file.Judge(testDecider(t), "", nil)
	out, _, err := file.Injected(judgements)
	if err != nil {
		t.Skip() // a pod that can't be patched is an error, and nothing is written
	}
	changed := false
	for i := range judgements {
		changed = changed || len(judgements[i].Patch) > 0
	}
	if !changed && string(out) != string(stream) {
		t.Errorf("nothing was injected, but %q became %q (%v)", stream, out, diagnostics)
	}
	if _, wrong := Parse("out", out); len(diagnostics) == 0 && len(wrong) > 0 {
		t.Errorf("%q became %q, which can't be read: %v", stream, out, wrong)
	}
	return out
}
