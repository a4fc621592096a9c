package certs

import (
	"crypto/x509"
	"errors"
	"time"
)

const (
	// authorityName is the common name of our authority; a former authority is recognized by it.
	authorityName = "agentlet-webhook-ca"
	// leafDuration is how long a serving certificate is valid; it is renewed at two thirds of that.
	leafDuration = 24 * time.Hour
	// formerFor is how long after the birth of a new authority a former one stays trusted: as long as the youngest
	// certificate that it can have signed is valid, so that a replica which has not heard of the new one is believed.
	formerFor = leafDuration
	// maxFormer bounds how many former authorities a bundle holds.
	maxFormer = 3
)

// mergeBundle returns the caBundle that a webhook shall have: the authority of now, then those of its predecessors that
// stand in the existing bundle, are still valid and not yet to be forgotten (formerFor). Everything else is dropped. It
// depends on nothing but its arguments, so that two replicas come to the same bytes and do not undo each other's work.
func mergeBundle(authority, existing []byte, now time.Time) ([]byte, error) {
	current := parseBundle(authority)
	if len(current) == 0 {
		return nil, errors.New("the authority's secret holds no certificate")
	}
	merged := current[:1]
	for _, former := range parseBundle(existing) {
		if len(merged) > maxFormer {
			break
		}
		// The youngest leaf of a former authority was signed before the authority of now was there. An authority that is
		// older than the former one was restored, and then the former one has signed until just now.
		young := now.Before(current[0].NotBefore.Add(formerFor)) || now.Before(former.NotBefore.Add(formerFor))
		if young && isFormer(former, now) && !contains(merged, former) {
			merged = append(merged, former)
		}
	}
	return encodeBundle(merged), nil
}

// isFormer says whether a certificate is one of our authorities and still valid.
func isFormer(certificate *x509.Certificate, now time.Time) bool {
	return certificate.IsCA && certificate.Subject.CommonName == authorityName && now.Before(certificate.NotAfter)
}

func contains(all []*x509.Certificate, wanted *x509.Certificate) bool {
	for _, certificate := range all {
		if certificate.Equal(wanted) {
			return true
		}
	}
	return false
}
