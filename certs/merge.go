package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"time"
)

const (
	// authorityName is the common name of our CA, by which former ones are recognized.
	authorityName = "agentlet-webhook-ca"
	// leafDuration is how long a serving certificate is valid. It is renewed after two thirds of that.
	leafDuration = 24 * time.Hour
	// previousCARetention is how long a former CA stays trusted after the new one's validity has begun, which is backdated: as
	// long as the youngest certificate that it can have signed is valid, so that a replica that doesn't know the new CA yet is
	// trusted. An hour is added for clocks that differ.
	previousCARetention = leafDuration + backdated + time.Hour
	// strangerFor is how long a foreign CA stays trusted after it was first observed. It is longer than a rollout from one
	// source of certificates to another takes, in which replicas of both serve, and than a replica takes to follow a Secret.
	strangerFor = 10 * time.Minute
	// maxFormer bounds the CAs in a bundle beside the current one.
	maxFormer = 3
)

// mergeBundle returns the caBundle that a webhook should have: the CA's certificates, and then at most maxFormer of the existing
// bundle that stay. An existing bundle with the same certificates in another order is returned as it is, because replicas that
// see different CAs would undo each other's changes.
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

// isFormer reports whether a certificate is that of a former CA of ours that is still valid and has to stay trusted. It depends
// only on its arguments, so that all replicas remove it at the same time.
func isFormer(certificate, current *x509.Certificate, now time.Time) bool {
	// A former CA signed its youngest leaf before the current CA was created. If the current one is older, it was restored, and
	// the former one has signed until now.
	young := now.Before(current.NotBefore.Add(previousCARetention)) || now.Before(certificate.NotBefore.Add(previousCARetention))
	return young && isOurs(certificate) && now.Before(certificate.NotAfter)
}

// isOurs reports whether a certificate is that of a sharedAuthority.
func isOurs(certificate *x509.Certificate) bool {
	return certificate.IsCA && certificate.Subject.CommonName == authorityName
}

func contains(all []*x509.Certificate, wanted *x509.Certificate) bool {
	return slices.ContainsFunc(all, wanted.Equal)
}

// foreignCAs are the certificates in the bundles of a configuration that are not the CA's, by their SHA-256, with the time when
// they were first observed. A replica with another source of certificates may have added them, or they are of a former CA. A
// certificate that was removed and added again counts as new, because it is needed. Replicas with different times don't undo
// each other's changes, because none adds a certificate again.
type foreignCAs map[[sha256.Size]byte]time.Time

// observe takes in which certificates are in the bundles beside the CA's.
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

// retain reports whether an observed certificate is still valid and was first observed less than strangerFor ago.
func (s foreignCAs) retain(certificate *x509.Certificate, now time.Time) bool {
	since, seen := s[sha256.Sum256(certificate.Raw)]
	return seen && now.Before(since.Add(strangerFor)) && now.Before(certificate.NotAfter)
}
