package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

const certificateLife = 365 * 24 * time.Hour

// authority is the cluster's own CA. It signs the certificates of the API server and the kubelets, and certificate requests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// request describes a certificate.
type request struct {
	commonName   string
	organization []string
	names        []string
	ips          []string
	usage        x509.ExtKeyUsage
}

// writePKI writes all keys and certificates of a new cluster.
func (l layout) writePKI(nodes int) error {
	ca, err := newAuthority("agentlet-" + l.name)
	if err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	if err := ca.write(l, "ca"); err != nil {
		return err
	}
	serviceAccounts, err := newKey()
	if err != nil {
		return err
	}
	if err := writeKey(l.pki("service-accounts.key"), serviceAccounts); err != nil {
		return err
	}
	requests := map[string]request{
		"apiserver": {
			commonName: "kube-apiserver", usage: x509.ExtKeyUsageServerAuth, ips: []string{hostIP, serviceIP, "127.0.0.1"},
			names: []string{
				"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			},
		},
		"apiserver-kubelet-client": {
			commonName: "kube-apiserver-kubelet-client", organization: []string{"system:masters"},
			usage: x509.ExtKeyUsageClientAuth,
		},
	}
	for node := 1; node <= nodes; node++ {
		requests["kubelet-"+nodeName(node)] = request{
			commonName: "system:node:" + nodeName(node), organization: []string{"system:nodes"},
			names: []string{nodeName(node)}, ips: []string{nodeIP(node)}, usage: x509.ExtKeyUsageServerAuth,
		}
	}
	for name, r := range requests {
		leaf, err := ca.issue(r)
		if err != nil {
			return fmt.Errorf("issue certificate %s: %w", name, err)
		}
		if err := leaf.write(l, name); err != nil {
			return err
		}
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

func newAuthority(commonName string) (*authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: commonName}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return sign(template, nil)
}

func (a *authority) issue(r request) (*authority, error) {
	template := &x509.Certificate{
		Subject:  pkix.Name{CommonName: r.commonName, Organization: r.organization},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{r.usage}, DNSNames: r.names,
	}
	for _, ip := range r.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	return sign(template, a)
}

// sign creates a key and its certificate, signed by parent, or self-signed if parent is nil.
func sign(template *x509.Certificate, parent *authority) (*authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("generate serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour) // allow for the clock of a suspended machine
	template.NotAfter = time.Now().Add(certificateLife)
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		return nil, fmt.Errorf("create certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return &authority{certificate: certificate, key: key}, nil
}

// write writes NAME.crt and NAME.key.
func (a *authority) write(l layout, name string) error {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	if err := writeFile(l.pki(name+".crt"), block); err != nil {
		return err
	}
	return writeKey(l.pki(name+".key"), a.key)
}

// writeKey writes a key in a form that the API server also accepts for service accounts: it can't read PKCS #8.
func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// newToken returns a random bearer token.
func newToken() string {
	token := make([]byte, 16)
	rand.Read(token) // documented never to fail
	return hex.EncodeToString(token)
}
