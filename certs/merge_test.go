package certs

import (
	"bytes"
	"crypto/x509"
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
		"order says nothing":        {bundle(former, current), now, bundle(former, current)},
		"stable":                    {bundle(current, former), now, bundle(current, former)},
		"no duplicates":             {bundle(former, current, former), now, bundle(current, former)},
		"an expired one goes":       {bundle(former, expired), now, bundle(current, former)},
		"none of ours goes":         {bundle(foreign, current), now, bundle(current)},
		"a former one is forgotten": {bundle(current, former), current.certificate.NotBefore.Add(previousCARetention), bundle(current)},
		"no more than three former": {bundle(former, former2, former3, former4), now, bundle(current, former, former2, former3)},
		"restored, and so older than the one in use": {bundle(younger), now.Add(previousCARetention - 30*time.Minute), bundle(current, younger)},
		"another PEM form":                           {append([]byte("\n# comment\n"), bundle(current)...), now, append([]byte("\n# comment\n"), bundle(current)...)},
	} {
		t.Run(name, func(t *testing.T) {
			existing := slices.Clone(test.existing)
			merge := func(existing []byte) []byte {
				return mergeBundle(parseBundle(current.pem()), existing, func(other *x509.Certificate) bool {
					return isFormer(other, current.certificate, test.at)
				})
			}
			got := merge(test.existing)
			if !bytes.Equal(got, test.want) {
				t.Errorf("got %d certificates, want %d", len(parseBundle(got)), len(parseBundle(test.want)))
			}
			if again := merge(got); !bytes.Equal(again, got) {
				t.Error("a second look changes it again")
			}
			if !bytes.Equal(existing, test.existing) {
				t.Error("the argument was changed")
			}
		})
	}
}

func TestForeignCAsStayForAWhile(t *testing.T) {
	now := time.Now()
	current, stranger, expired := newCA(t, authorityName, now), newCA(t, "x", now.Add(-year/2)), newCA(t, "y", now.Add(-2*year))
	authority, seen := parseBundle(current.pem()), foreignCAs{}
	with, without := hook{"a", append(current.pem(), stranger.pem()...)}, hook{"b", append(current.pem(), expired.pem()...)}
	for _, step := range []struct {
		what  string
		hooks []hook
		at    time.Duration
		stays bool
	}{
		{"never seen", []hook{without}, 0, false},
		{"seen", []hook{with, without}, time.Minute, true},
		{"in one webhook only", []hook{without, with}, strangerFor, true},
		{"too long", []hook{with}, time.Minute + strangerFor, false},
		{"still there", []hook{with}, 2 * strangerFor, false},
		{"gone", []hook{without}, 2 * strangerFor, false},
		{"put back", []hook{with}, 3 * strangerFor, true},
	} {
		at := now.Add(step.at)
		seen.observe(authority, step.hooks, at)
		if got := seen.retain(stranger.certificate, at); got != step.stays {
			t.Errorf("%s: stays %v, want %v", step.what, got, step.stays)
		}
		if seen.retain(expired.certificate, at) || seen.retain(current.certificate, at) {
			t.Errorf("%s: an expired one, or the authority, is a stranger that stays", step.what)
		}
	}
}
