package consul_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// secured is a Consul agent with TLS and ACLs that deny by default.
type secured struct {
	*consultest.Agent
	authority *consultest.Authority
}

func startSecured(t *testing.T) secured {
	t.Helper()
	authority := consultest.NewAuthority(t)
	return secured{consultest.StartSecured(t, authority, authority.Issue(t, inAnHour(), "localhost"), false), authority}
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

func (s secured) client(t *testing.T, acl consul.ACL) *consul.Client {
	t.Helper()
	client, err := consul.New(consul.Config{
		Address: s.Address, Scheme: "https", HostIP: "127.0.0.1", Wait: 20 * time.Second,
		TLS: consul.TLS{CA: string(s.authority.PEM)}, ACL: acl,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func written(t *testing.T, content string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "secret")
	write(t, file, content)
	return file
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// withPolicy makes a token with these rules alone.
func (s secured) withPolicy(t *testing.T, rules string) (secret string) {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", "-")
	policy, _, err := s.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token.SecretID
}

// live takes an instance through everything that a registrar does in its life.
func live(ctx context.Context, client *consul.Client) error {
	definition := web()
	if _, err := client.Instances(ctx, prefix); err != nil {
		return err
	}
	if err := client.Register(ctx, definition, contract.Passing, []string{contract.CheckID(definition.ID, 7)}); err != nil {
		return err
	}
	await := func(wanted func(agentlet.CatalogView) bool) error {
		for index := uint64(0); ; {
			view, err := client.OnNode(ctx, prefix, index, time.Minute)
			if err != nil || wanted(view) {
				return err
			}
			index = view.Index
		}
	}
	if err := await(func(view agentlet.CatalogView) bool { return view.Instances[definition.ID].Health == contract.Passing }); err != nil {
		return err
	}
	hash, err := client.Changed(ctx, definition.ID, "")
	if err != nil || hash == "" {
		return errors.Join(err, errors.New("no hash"))
	}
	observed, err := client.Instances(ctx, prefix)
	if err != nil || len(observed) != 1 {
		return errors.Join(err, errors.New("the agent does not show the instance"))
	}
	for _, check := range []string{contract.HeartbeatID(definition.ID), contract.ReadinessID(definition.ID)} {
		if err := client.Update(ctx, check, contract.Passing, ""); err != nil {
			return err
		}
	}
	if err := client.Deregister(ctx, definition.ID); err != nil {
		return err
	}
	return await(func(view agentlet.CatalogView) bool { return len(view.Instances) == 0 })
}

// TestPolicySufficesAndIsNeeded takes the policy of the documentation, whole and without each of its rules.
func TestPolicySufficesAndIsNeeded(t *testing.T) {
	server := startSecured(t)
	text, err := os.ReadFile("../../docs/consul/registrar.hcl")
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.SplitAfter(string(text), "}\n")
	rules = rules[:len(rules)-1] // the rest is empty
	if len(rules) != 2 {
		t.Fatalf("the policy has %d rules, and this test knows 2", len(rules))
	}
	for name, c := range map[string]struct {
		rules string
		says  string // empty: it suffices
	}{
		"whole":           {rules[0] + rules[1], ""},
		"without node":    {rules[0], "lacks node:read"},
		"without service": {rules[1], `lacks permission 'service:write' on "web"`},
		"none":            {"", "lacks permission 'service:write'"},
	} {
		t.Run(name, func(t *testing.T) {
			client := server.client(t, consul.ACL{TokenFile: written(t, server.withPolicy(t, c.rules)+"\n")})
			if _, err := client.Login(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err := live(ctx, client)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("a life ended with %v, want %q", err, c.says)
			}
			_ = client.Deregister(t.Context(), web().ID)
		})
	}
}

func TestDenialSaysWhatToDoAndNoAccessor(t *testing.T) {
	server := startSecured(t)
	for name, c := range map[string]struct {
		acl  consul.ACL
		says string
	}{
		"a token without the right": {consul.ACL{TokenFile: written(t, server.withPolicy(t, `service "other" { policy = "write" }`))}, "policy, a role or a binding rule"},
		"no token at all":           {consul.ACL{}, "--consul-token-file"},
	} {
		t.Run(name, func(t *testing.T) {
			client := server.client(t, c.acl)
			if c.acl.Enabled() {
				if _, err := client.Login(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			err := client.Register(t.Context(), web(), contract.Passing, nil)
			if !errors.Is(err, agentlet.ErrDenied) || !errors.Is(err, agentlet.ErrRejected) || errors.Is(err, agentlet.ErrUnknownToken) {
				t.Fatalf("Register = %v, want ErrDenied", err)
			}
			if said := err.Error(); !strings.Contains(said, c.says) || strings.Contains(said, "AccessorID") {
				t.Errorf("Register = %v, want %q and no accessor", err, c.says)
			}
		})
	}
}

// issuer signs tokens as an API server does for service accounts.
type issuer struct {
	key *ecdsa.PrivateKey
	url string
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{key, "https://kubernetes.default.svc"}
}

func (i issuer) publicKey(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (i issuer) token(t *testing.T, audience, namespace, account string) string {
	t.Helper()
	part := func(v any) string {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	now := time.Now().Unix()
	signed := part(map[string]any{"alg": "ES256", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": i.url, "aud": []string{audience}, "iat": now, "nbf": now, "exp": now + 600,
		"sub":           "system:serviceaccount:" + namespace + ":" + account,
		"kubernetes.io": map[string]any{"namespace": namespace, "serviceaccount": map[string]any{"name": account}},
	})
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

// jwtMethod makes an auth method of type jwt by the documentation: pods of shop may register their account's name.
func (s secured) jwtMethod(t *testing.T, i issuer, life time.Duration) {
	t.Helper()
	s.namedMethod(t, i, "agentlet", life)
}

func (s secured) namedMethod(t *testing.T, i issuer, name string, life time.Duration) {
	t.Helper()
	_, _, err := s.Client.ACL().AuthMethodCreate(&api.ACLAuthMethod{
		Name: name, Type: "jwt", MaxTokenTTL: life,
		Config: map[string]any{
			"JWTValidationPubKeys": []string{i.publicKey(t)}, "BoundIssuer": i.url, "BoundAudiences": []string{"consul"},
			"ClaimMappings": map[string]string{
				"/kubernetes.io/namespace": "namespace", "/kubernetes.io/serviceaccount/name": "account",
			},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Client.ACL().BindingRuleCreate(&api.ACLBindingRule{
		AuthMethod: name, BindType: api.BindingRuleBindTypeService, BindName: "${value.account}", Selector: `value.namespace=="shop"`,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// logins are the tokens that logins have made.
func (s secured) logins(t *testing.T) (tokens []*api.ACLTokenListEntry) {
	t.Helper()
	all, _, err := s.Client.ACL().TokenList(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range all {
		if token.AuthMethod != "" {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// TestLogin shows that what a binding rule of type service gives suffices for a whole life, and that a logout leaves no token.
func TestLogin(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, 90*time.Second)
	file := written(t, i.token(t, "consul", "shop", "web"))
	client := server.client(t, consul.ACL{AuthMethod: "agentlet", BearerFile: file, Meta: map[string]string{"pod": "shop/web-1"}})

	first, err := client.Login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if first.ID == 0 || first.Renew < 59*time.Second || first.Renew > 61*time.Second {
		t.Errorf("session = %+v, want one to renew after two thirds of 90s", first)
	}
	if err := live(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if got := server.logins(t); len(got) != 1 || !strings.Contains(got[0].Description, "shop/web-1") {
		t.Errorf("tokens of logins: %+v", got)
	}

	second, err := client.Login(t.Context())
	if err != nil || second.ID == first.ID {
		t.Fatalf("second session = %+v, %v", second, err)
	}
	if err := client.Logout(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := live(t.Context(), client); err != nil {
		t.Errorf("after the end of the first session: %v", err)
	}
	if err := client.Logout(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if err := client.Logout(t.Context(), second.ID); !errors.Is(err, agentlet.ErrAbsent) {
		t.Errorf("second logout = %v, want ErrAbsent", err)
	}
	if got := server.logins(t); len(got) != 0 {
		t.Errorf("tokens of logins left: %+v", got)
	}
}

func TestLoginThatIsRefused(t *testing.T) {
	server, i, stranger := startSecured(t), newIssuer(t), newIssuer(t)
	server.jwtMethod(t, i, 0)
	for name, c := range map[string]struct {
		method, bearer string
		is             error
		says           string
	}{
		"no binding rule":    {"agentlet", i.token(t, "consul", "other", "web"), agentlet.ErrRejected, "no binding rule"},
		"another audience":   {"agentlet", i.token(t, "vault", "shop", "web"), nil, "aud"},
		"another issuer":     {"agentlet", stranger.token(t, "consul", "shop", "web"), nil, "signature"},
		"no such method":     {"nobody", i.token(t, "consul", "shop", "web"), agentlet.ErrRejected, "--consul-auth-method"},
		"no token to log in": {"agentlet", "", nil, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			client := server.client(t, consul.ACL{AuthMethod: c.method, BearerFile: written(t, c.bearer)})
			_, err := client.Login(t.Context())
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || errors.Is(err, agentlet.ErrUnreachable) {
				t.Fatalf("Login = %v, want %v saying %q", err, c.is, c.says)
			}
			if c.bearer != "" && strings.Contains(err.Error(), c.bearer) {
				t.Error("the error holds the token")
			}
			_, again := client.Login(t.Context())
			if again == nil || again.Error() != err.Error() {
				t.Errorf("the same refusal is told differently:\n%v\n%v", err, again)
			}
		})
	}
}

func TestTokenInAFile(t *testing.T) {
	server := startSecured(t)
	rules := `service "web" { policy = "write" } node_prefix "" { policy = "read" }`
	file := filepath.Join(t.TempDir(), "token")
	client := server.client(t, consul.ACL{TokenFile: file})
	if _, err := client.Login(t.Context()); err == nil || !strings.Contains(err.Error(), "--consul-token-file") {
		t.Errorf("without the file: %v, want what to do", err)
	}
	write(t, file, "00000000-0000-4000-8000-000000000bad")
	first, err := client.Login(t.Context())
	if err != nil || first.Renew == 0 {
		t.Fatalf("session = %+v, %v, want one whose file is looked at again", first, err)
	}
	if err := live(t.Context(), client); !errors.Is(err, agentlet.ErrUnknownToken) {
		t.Errorf("with a token that Consul doesn't know: %v, want ErrUnknownToken", err)
	}
	if again, err := client.Login(t.Context()); err != nil || again != first {
		t.Errorf("the same file makes another session: %+v, %v", again, err)
	}
	write(t, file, server.withPolicy(t, rules))
	second, err := client.Login(t.Context())
	if err != nil || second.ID == first.ID {
		t.Fatalf("another token makes session %+v, %v", second, err)
	}
	if err := live(t.Context(), client); err != nil {
		t.Error(err)
	}
	if err := client.Logout(t.Context(), first.ID); err != nil {
		t.Errorf("end of a session without a login: %v", err)
	}
}

func TestTokenThatDies(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, 0)
	client := server.client(t, consul.ACL{AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web"))})
	session, err := client.Login(t.Context())
	if err != nil || session.Renew != 0 {
		t.Fatalf("session = %+v, %v, want one for ever", session, err)
	}
	if err := client.Register(t.Context(), web(), contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Client.ACL().TokenDelete(server.logins(t)[0].AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second) // the agent knows it for a second more
	for err = nil; err == nil && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		err = client.Update(t.Context(), contract.HeartbeatID(web().ID), contract.Passing, "")
	}
	if !errors.Is(err, agentlet.ErrUnknownToken) {
		t.Errorf("Update = %v, want ErrUnknownToken", err)
	}
	if err := client.Logout(t.Context(), session.ID); !errors.Is(err, agentlet.ErrAbsent) {
		t.Errorf("Logout = %v, want ErrAbsent", err)
	}
}

// TestMissingTokenSaysWhoseItIs: a token of Consul comes from a Secret that a person makes, one to log in with from Kubernetes.
func TestMissingTokenSaysWhoseItIs(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "token")
	for _, c := range []struct {
		acl    consul.ACL
		secret bool
	}{{consul.ACL{TokenFile: missing}, true}, {consul.ACL{AuthMethod: "agentlet", BearerFile: missing}, false}} {
		client, err := consul.New(consul.Config{Address: "127.0.0.1:1", Scheme: "http", ACL: c.acl})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Login(t.Context())
		if err == nil || !strings.Contains(err.Error(), missing) || strings.Contains(err.Error(), "--consul-token-file") != c.secret {
			t.Errorf("%+v: %v, want one of the Secret: %v", c.acl, err, c.secret)
		}
	}
}
