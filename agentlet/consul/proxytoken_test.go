package consul_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
)

func TestProxysOwnToken(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, time.Hour)
	server.namedMethod(t, i, "proxies", 0)
	file := filepath.Join(t.TempDir(), "token")
	acl := consul.ACL{
		AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web")), ProxyAuthMethod: "proxies", ProxyTokenFile: file,
	}
	client := server.client(t, acl)
	session, err := client.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lent, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	self, _, err := server.Client.ACL().TokenReadSelf(&api.QueryOptions{Token: string(lent)})
	if err != nil {
		t.Fatal(err)
	}
	if self.AuthMethod != "proxies" || !strings.Contains(self.Description, "mesh proxy") || len(self.ServiceIdentities) != 1 || self.ServiceIdentities[0].ServiceName != "web" {
		t.Errorf("the proxy's token is %+v", self)
	}

	// Neither a renewal nor another process of the pod makes one more.
	for _, again := range []*consul.Client{client, server.client(t, acl)} {
		if _, err := again.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != string(lent) {
			t.Errorf("the proxy's token has changed: %v", err)
		}
	}
	if err := client.Logout(t.Context(), session.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.Client.ACL().TokenReadSelf(&api.QueryOptions{Token: string(lent)}); err != nil {
		t.Errorf("the proxy's token ended with the agentlet's: %v", err)
	}
	if err := client.Reclaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, token := range server.logins(t) {
		if token.AuthMethod == "proxies" {
			t.Error("the proxy's token is left")
		}
	}
	if err := client.Reclaim(t.Context()); err != nil {
		t.Errorf("nothing to reclaim: %v", err)
	}
}

// TestProxysDeadToken has the proxy's token follow what Consul knows, and the agentlet's own session depend on none of it.
func TestProxysDeadToken(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, time.Hour)
	server.namedMethod(t, i, "proxies", 0)
	file := filepath.Join(t.TempDir(), "token")
	client := server.client(t, consul.ACL{
		AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web")), ProxyAuthMethod: "proxies", ProxyTokenFile: file,
	})
	login := func() string {
		t.Helper()
		if _, err := client.Login(t.Context()); err != nil {
			t.Fatal(err)
		}
		token, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(token)
	}
	first := login()
	if _, err := server.Client.ACL().Logout(&api.WriteOptions{Token: first}); err != nil {
		t.Fatal(err)
	}
	second := login()
	if second == first {
		t.Fatal("the proxy keeps a token that Consul doesn't know")
	}
	if _, _, err := server.Client.ACL().TokenReadSelf(&api.QueryOptions{Token: second}); err != nil {
		t.Errorf("the proxy's second token: %v", err)
	}
	if _, err := server.Client.ACL().AuthMethodDelete("proxies", nil); err != nil { // with its tokens
		t.Fatal(err)
	}
	if third := login(); third != second {
		t.Error("a token of no method")
	}
}

func TestProxysTokenMayNotRunOut(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, time.Hour)
	file := filepath.Join(t.TempDir(), "token")
	acl := consul.ACL{AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web")), ProxyAuthMethod: "agentlet", ProxyTokenFile: file}
	_, err := server.client(t, acl).Login(t.Context())
	if !errors.Is(err, agentlet.ErrRejected) || !strings.Contains(err.Error(), "token TTL") {
		t.Errorf("Login: %v", err)
	}
	acl.ProxyAuthMethod = "nobody"
	if _, err := server.client(t, acl).Login(t.Context()); !errors.Is(err, agentlet.ErrRejected) || !strings.Contains(err.Error(), "--proxy-auth-method") {
		t.Errorf("Login by no method: %v", err)
	}
	if tokens := server.logins(t); len(tokens) > 0 {
		t.Errorf("%d tokens are left", len(tokens))
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the proxy has a token")
	}
}
