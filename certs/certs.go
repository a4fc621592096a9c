// Package certs provides the webhook's serving certificate, and ensures that the API server trusts it.
//
// Self keeps its own CA in a Secret, signs short-lived leaf certificates with it, and keeps the caBundle of the webhook
// configuration equal to it. Secret serves a certificate that another program, such as cert-manager, writes into a Secret.
// Both have GetCertificate, which returns the current certificate, and Trusted, which says whether the API server would
// accept it.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// caKey is the key of a certificate's CA in its Secret, as cert-manager writes it.
const caKey = "ca.crt"

// ServerName is the name by which the API server calls a webhook's service, whatever the cluster's DNS domain is. A serving
// certificate needs no other name.
func ServerName(service, namespace string) string { return service + "." + namespace + ".svc" }

// verify is nil where a client that trusts only this PEM bundle would accept the certificate for the name.
func verify(certificate *tls.Certificate, name string, bundle []byte, now time.Time) error {
	leaf, err := leafOf(certificate)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("the CA bundle holds no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, der := range certificate.Certificate[1:] {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse intermediate certificate: %w", err)
		}
		intermediates.AddCert(parsed)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// leafOf returns the first certificate of a chain, parsed.
func leafOf(certificate *tls.Certificate) (*x509.Certificate, error) {
	if certificate.Leaf != nil {
		return certificate.Leaf, nil
	}
	if len(certificate.Certificate) == 0 {
		return nil, errors.New("the serving certificate is empty")
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("parse serving certificate: %w", err)
	}
	return leaf, nil
}

// parseBundle returns the certificates of a PEM bundle and skips all other blocks.
func parseBundle(bundle []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return all
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if parsed, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, parsed)
		}
	}
}

// encodeBundle encodes certificates in PEM. Equal lists become equal bytes.
func encodeBundle(all []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, certificate := range all {
		// Writing to a bytes.Buffer never fails.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	}
	return out.Bytes()
}
