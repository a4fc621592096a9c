package certs

import (
	"bytes"
	"slices"
	"testing"
	"time"
)

func TestMergeBundle(t *testing.T) {
	now := time.Now()
	current := newCA(t, authorityName, now.Add(-time.Hour))
	former := newCA(t, authorityName, now.Add(-year/2))
	former2 := newCA(t, authorityName, now.Add(-year/2))
	former3 := newCA(t, authorityName, now.Add(-year/2))
	former4 := newCA(t, authorityName, now.Add(-year/2))
	younger := newCA(t, authorityName, now)
	expired := newCA(t, authorityName, now.Add(-2*year))
	foreign := newCA(t, "somebody else", now.Add(-year/2))
	bundle := func(all ...*ca) (out []byte) {
		for _, one := range all {
			out = append(out, one.pem()...)
		}
		return out
	}
	for name, test := range map[string]struct {
		existing []byte
		at       time.Time
		want     []byte
	}{
		"nothing there":             {nil, now, bundle(current)},
		"rubbish":                   {[]byte("rubbish"), now, bundle(current)},
		"as it should be":           {bundle(current), now, bundle(current)},
		"a former one stays behind": {bundle(former), now, bundle(current, former)},
		"order settles":             {bundle(former, current), now, bundle(current, former)},
		"stable":                    {bundle(current, former), now, bundle(current, former)},
		"no duplicates":             {bundle(former, current, former), now, bundle(current, former)},
		"an expired one goes":       {bundle(former, expired), now, bundle(current, former)},
		"a foreign one goes":        {bundle(foreign, current), now, bundle(current)},
		"a former one is forgotten": {bundle(current, former), current.certificate.NotBefore.Add(formerFor), bundle(current)},
		"no more than three former": {bundle(former, former2, former3, former4), now, bundle(current, former, former2, former3)},
		"restored, and so older than the one in use": {bundle(younger), now.Add(formerFor - 30*time.Minute), bundle(current, younger)},
		"another PEM form":                           {append([]byte("\n# comment\n"), bundle(current)...), now, bundle(current)},
	} {
		t.Run(name, func(t *testing.T) {
			existing := slices.Clone(test.existing)
			got, err := mergeBundle(current.pem(), test.existing, test.at)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, test.want) {
				t.Errorf("got %d certificates, want %d", len(parseBundle(got)), len(parseBundle(test.want)))
			}
			if again, _ := mergeBundle(current.pem(), got, test.at); !bytes.Equal(again, got) {
				t.Error("a second look changes it again")
			}
			if !bytes.Equal(existing, test.existing) {
				t.Error("the argument was changed")
			}
		})
	}
	if _, err := mergeBundle([]byte("rubbish"), nil, now); err == nil {
		t.Error("an authority without a certificate is no error")
	}
}
