package cluster

import (
	"bytes"
	"crypto/x509"
	"fmt"
)

// webhookFiles configure the client certificate that the API server presents to webhooks, by the name of the webhook's service.
// docs/security.md shows the same templates.
var webhookFiles = map[string]string{"admission.yaml": "admission.yaml", "webhooks.kubeconfig": "kubeconfig"}

// webhooksDir returns the folder of those files.
func (l layout) webhooksDir() string { return l.pki("webhooks") }

// WebhookClientCA returns the path of the CA certificate for the API server's client certificate. The API server presents that
// certificate to webhooks only.
func (c *Cluster) WebhookClientCA() string { return c.layout.pki("webhooks/ca.crt") }

func (l layout) writeWebhookFiles() error {
	ca, err := newAuthority("agentlet-" + l.name + "-webhooks")
	if err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	client, err := ca.issue(request{commonName: "kube-apiserver", usage: x509.ExtKeyUsageClientAuth})
	if err != nil {
		return fmt.Errorf("issue certificate: %w", err)
	}
	for name, signed := range map[string]*authority{"ca": ca, "client": client} {
		if err := signed.write(l, "webhooks/"+name); err != nil {
			return err
		}
	}
	for from, to := range webhookFiles {
		var content bytes.Buffer
		if err := templates.ExecuteTemplate(&content, from, map[string]string{"Folder": l.webhooksDir()}); err != nil {
			return fmt.Errorf("fill in %s: %w", from, err)
		}
		if err := writeFile(l.webhooksDir()+"/"+to, content.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
