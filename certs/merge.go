package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"
)

const (
	// authorityName is the common name of our authority; a former authority is recognized by it.
	authorityName = "agentlet-webhook-ca"
	// leafDuration is how long a serving certificate is valid; it is renewed at two thirds of that.
	leafDuration = 24 * time.Hour
	// previousCARetention is how long after the begin of a new authority's validity, which is backdated, a former one stays trusted:
	// as long as the youngest certificate that it can have signed is valid, so that a replica which has not heard of the new
	// one is believed, and an hour for replicas whose clocks differ.
	previousCARetention = leafDuration + backdated + time.Hour
	// strangerFor is how long an authority that is none of ours stays trusted, counted from when it was seen first: as long as
	// a rollout between two sources of certificates takes, in which each trusts its own and serves what the other one has to
	// trust, and longer than a replica takes to follow a Secret.
	strangerFor = 10 * time.Minute
	// maxFormer bounds how many authorities a bundle holds beside the one of now.
	maxFormer = 3
)

// mergeBundle returns the caBundle that a webhook shall have: the certificates of the authority, then those in the existing
// bundle that stay, at most maxFormer. Another order of the same certificates says nothing else, and is left as it is: two
// replicas that differ about the authority would undo each other's work.
func mergeBundle(authority []*x509.Certificate, existing []byte, stays func(*x509.Certificate) bool) []byte {
	merged, before := slices.Clip(authority), parseBundle(existing)
	for _, certificate := range before {
		if len(merged) < len(authority)+maxFormer && stays(certificate) && !contains(merged, certificate) {
			merged = append(merged, certificate)
		}
	}
	if len(before) == len(merged) && !slices.ContainsFunc(merged, func(c *x509.Certificate) bool { return !contains(before, c) }) {
		return existing
	}
	return encodeBundle(merged)
}

// isFormer says whether a certificate is that of an authority of our own which came before the current one, is still valid and
// not to be forgotten yet. It depends on nothing but its arguments, so that all replicas forget at the same time.
func isFormer(certificate, current *x509.Certificate, now time.Time) bool {
	// The youngest leaf of a former authority was signed before the authority of now was there. An authority that is older than
	// the former one was restored, and then the former one has signed until just now.
	young := now.Before(current.NotBefore.Add(previousCARetention)) || now.Before(certificate.NotBefore.Add(previousCARetention))
	return young && isOurs(certificate) && now.Before(certificate.NotAfter)
}

// isOurs says whether a certificate is that of a sharedAuthority.
func isOurs(certificate *x509.Certificate) bool {
	return certificate.IsCA && certificate.Subject.CommonName == authorityName
}

func contains(all []*x509.Certificate, wanted *x509.Certificate) bool {
	return slices.ContainsFunc(all, wanted.Equal)
}

// foreignCAs are the certificates in the bundles of a configuration that are not the authority's, each by its SHA-256 with when
// it was seen first. Nothing is known of who put them there: a replica with another source of certificates, or the authority
// that this one was before. One that went away and comes back is seen first again: somebody needs it. Replicas that count
// differently do not undo each other's work, because none brings back what is not there.
type foreignCAs map[[sha256.Size]byte]time.Time

// observe takes note of what stands in the bundles beside the authority.
func (s foreignCAs) observe(authority []*x509.Certificate, hooks []hook, now time.Time) {
	seen := foreignCAs{}
	for _, hook := range hooks {
		for _, certificate := range parseBundle(hook.caBundle) {
			if key := sha256.Sum256(certificate.Raw); !contains(authority, certificate) {
				seen[key] = now
			}
		}
	}
	for key := range s {
		if _, there := seen[key]; !there {
			delete(s, key)
		}
	}
	for key := range seen {
		if _, known := s[key]; !known {
			s[key] = now
		}
	}
}

// retain says whether a certificate that look has seen is still valid and was seen first less than strangerFor ago.
func (s foreignCAs) retain(certificate *x509.Certificate, now time.Time) bool {
	since, seen := s[sha256.Sum256(certificate.Raw)]
	return seen && now.Before(since.Add(strangerFor)) && now.Before(certificate.NotAfter)
}
