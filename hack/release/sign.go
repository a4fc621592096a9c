package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	// Signature is what a detached signature's file is called after the file that is signed.
	Signature = ".sig"
	// Bundle is what the same signature is called in Sigstore's JSON.
	Bundle = ".sigstore.json"
	// PublicKey is the name of the file with the public key.
	PublicKey = "cosign.pub"
)

// Sign signs the checksums and the bill of materials of a release, as `cosign sign-blob` does: a signature is the SHA-256 of the
// file, signed with ECDSA, in ASN.1 and base64. It is written alone, as openssl and any cosign read it, and in a bundle, which is
// to be the only form in later versions of cosign. The same key and file make the same signature.
func Sign(folder, version string, key []byte) error {
	private, err := parseKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	written := map[string][]byte{PublicKey: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}
	for _, name := range []string{Checksums, billName(version)} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return fmt.Errorf("read what is to be signed: %w", err)
		}
		digest := sha256.Sum256(data)
		signature, err := private.Sign(nil, digest[:], crypto.SHA256) // without randomness: RFC 6979
		if err != nil {
			return fmt.Errorf("sign %s: %w", name, err)
		}
		written[name+Signature] = []byte(base64.StdEncoding.EncodeToString(signature))
		if written[name+Bundle], err = json.Marshal(newBundle(public, digest[:], signature)); err != nil {
			return fmt.Errorf("encode bundle: %w", err)
		}
	}
	for name, data := range written {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return fmt.Errorf("write signature: %w", err)
		}
	}
	return nil
}

var errPublicKey = errors.New("public key: want that of an ECDSA key on the curve P-256 in PEM (PUBLIC KEY), as " + PublicKey + " has it")

// verifySignature returns an error unless a file of the folder, whose content is given, has a signature by the key, as Sign and
// `cosign sign-blob` write it.
func verifySignature(folder, name string, content, key []byte) error {
	block, _ := pem.Decode(key)
	if block == nil || block.Type != "PUBLIC KEY" {
		return errPublicKey
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%w: %w", errPublicKey, err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return errPublicKey
	}
	text, err := os.ReadFile(filepath.Join(folder, name+Signature))
	if err != nil {
		return fmt.Errorf("read signature: %w", err)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: want a signature in base64: %w", name+Signature, err)
	}
	if digest := sha256.Sum256(content); !ecdsa.VerifyASN1(public, digest[:], signature) {
		return fmt.Errorf("%s is not a signature of this %s by the key that is given", name+Signature, name)
	}
	return nil
}

// bundle is the part of Sigstore's bundle (v0.3) that a signature with a key has. Bytes are in base64.
type bundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	MessageSignature struct {
		MessageDigest struct {
			Algorithm string `json:"algorithm"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
}

// newBundle returns the bundle of a signature with the key whose public half is given in DER.
func newBundle(public, digest, signature []byte) (b bundle) {
	b.MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	hint := sha256.Sum256(public)
	b.VerificationMaterial.PublicKey.Hint = base64.StdEncoding.EncodeToString(hint[:])
	b.MessageSignature.MessageDigest.Algorithm, b.MessageSignature.MessageDigest.Digest = "SHA2_256", digest
	b.MessageSignature.Signature = signature
	return b
}

var errKey = errors.New("signing key: want an ECDSA key on the curve P-256 in PEM, as `openssl ecparam -genkey -name prime256v1` makes one")

// CheckKey returns an error unless Sign takes the key.
func CheckKey(text []byte) error {
	_, err := parseKey(text)
	return err
}

// parseKey reads the first private key of a PEM file; openssl writes the curve's parameters before it.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PARAMETERS":
			continue
		default: // such as cosign's own form, ENCRYPTED SIGSTORE PRIVATE KEY
			return nil, fmt.Errorf("%w; not an %s", errKey, block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errKey, err)
		}
		private, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%w; not a %T", errKey, key)
		}
		if private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("%w; not on %s", errKey, private.Curve.Params().Name)
		}
		return private, nil
	}
	return nil, errKey
}
