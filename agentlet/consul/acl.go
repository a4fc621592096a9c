package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
)

// ACL says where the client's tokens come from: a file, or a login. The zero value: from nowhere, none is sent.
type ACL struct {
	// TokenFile holds a token that somebody else keeps. It is read anew by each Login.
	TokenFile string
	// AuthMethod to log in with, by the bearer token in BearerFile, which is read anew by each Login.
	AuthMethod, BearerFile string
	// ProxyAuthMethod makes, by the same bearer token, a token of the mesh proxy's own, which Login writes into ProxyTokenFile and
	// Reclaim ends. Its tokens may not run out. Empty: none.
	ProxyAuthMethod, ProxyTokenFile string
	// Meta of the tokens that logins make; Consul shows it in their description.
	Meta map[string]string
}

// Enabled reports whether there is a token to send.
func (a ACL) Enabled() bool { return a.TokenFile != "" || a.AuthMethod != "" }

const (
	// reread is how often a token in a file is looked at. The kubelet brings a changed Secret within about a minute.
	reread = 15 * time.Second
	// replication bounds the wait for a new token on the server that the agent asks. One that is asked for too early is
	// taken for unknown, and stays so in the agent's cache for half a minute.
	replication     = 2 * time.Second
	replicationPoll = 20 * time.Millisecond
	// renewShare of a token's life passes at the most before the next login.
	renewShare = 2.0 / 3
)

// session is a token in use or waiting for its end.
type session struct {
	token string
	login bool // it was made by a login
}

// Login implements agentlet.Login.
func (c *Client) Login(ctx context.Context) (agentlet.Session, error) {
	if c.config.ACL.AuthMethod == "" {
		return c.readToken()
	}
	bearer, err := readSecret(c.config.ACL.BearerFile)
	if err != nil {
		return agentlet.Session{}, fmt.Errorf("log in: %w", err)
	}
	if err := c.ensureProxyToken(ctx, bearer); err != nil {
		return agentlet.Session{}, err
	}
	op := "log in with auth method " + c.config.ACL.AuthMethod
	token, _, err := c.api.ACL().Login(&api.ACLLoginParams{
		AuthMethod: c.config.ACL.AuthMethod, BearerToken: bearer, Meta: c.config.ACL.Meta,
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return agentlet.Session{}, explainLogin(op, "--consul-auth-method", c.classify(op, err))
	}
	c.awaitReplication(ctx, token.SecretID)
	return agentlet.Session{ID: c.use(session{token: token.SecretID, login: true}), Renew: renewAfter(token)}, nil
}

// explainLogin says what a person must do. A server without the auth method, and a login that no binding rule is for, both
// look like a missing permission.
func explainLogin(op, flag string, err error) error {
	switch {
	case errors.Is(err, agentlet.ErrUnknownToken):
		return fmt.Errorf("%s: %w: there is no such auth method (see %s)", op, agentlet.ErrRejected, flag)
	case errors.Is(err, agentlet.ErrDenied):
		return fmt.Errorf("%s: %w: it has no binding rule for the pod's service account", op, agentlet.ErrRejected)
	}
	return err
}

// renewAfter is counted in the servers' time, so that a node's clock doesn't matter.
func renewAfter(token *api.ACLToken) time.Duration {
	if token.ExpirationTime == nil {
		return 0
	}
	return time.Duration(float64(token.ExpirationTime.Sub(token.CreateTime)) * renewShare)
}

// awaitReplication returns when the server that the agent asks has the token, or after a while.
func (c *Client) awaitReplication(ctx context.Context, token string) {
	ctx, cancel := context.WithTimeout(ctx, replication)
	defer cancel()
	ticker := time.NewTicker(replicationPoll)
	defer ticker.Stop()
	for {
		_, _, err := c.api.ACL().TokenReadSelf((&api.QueryOptions{Token: token, AllowStale: true}).WithContext(ctx))
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// readToken makes what the file holds the session, if it isn't already.
func (c *Client) readToken() (agentlet.Session, error) {
	token, err := readSecret(c.config.ACL.TokenFile)
	if err != nil {
		return agentlet.Session{}, fmt.Errorf("%w; the namespace of the pod has to have the Secret that --consul-token-file is mounted from",
			err)
	}
	c.mu.Lock()
	current := c.current
	same := c.sessions[current].token == token
	c.mu.Unlock()
	if !same {
		current = c.use(session{token: token})
	}
	return agentlet.Session{ID: current, Renew: reread}, nil
}

// use makes a session the one of all calls from now on.
func (c *Client) use(s session) (id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun++
	c.current = c.begun
	c.sessions[c.current] = s
	return c.current
}

// Logout implements agentlet.Login.
func (c *Client) Logout(ctx context.Context, id int) error {
	c.mu.Lock()
	ending, known := c.sessions[id]
	c.mu.Unlock()
	if !known {
		return agentlet.ErrAbsent
	}
	var err error
	if ending.login {
		_, err = c.api.ACL().Logout((&api.WriteOptions{Token: ending.token}).WithContext(ctx))
		if err = c.classify("log out", err); errors.Is(err, agentlet.ErrUnknownToken) {
			err = fmt.Errorf("log out: %w", agentlet.ErrAbsent)
		}
	}
	if err == nil || errors.Is(err, agentlet.ErrAbsent) {
		c.mu.Lock()
		delete(c.sessions, id)
		c.mu.Unlock()
	}
	return err
}

// token of the session in use; empty when there is none.
func (c *Client) token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[c.current].token
}

// readSecret reads a file that the kubelet keeps.
func readSecret(file string) (string, error) {
	content, err := os.ReadFile(file)
	secret := string(bytes.TrimSpace(content))
	switch {
	case err != nil:
		return "", fmt.Errorf("read token: %w", err)
	case secret == "":
		return "", fmt.Errorf("read token: %s is empty", file)
	}
	return secret, nil
}

// withHint says what a person does about a denial.
func (c *Client) withHint(err error) error {
	switch {
	case !errors.Is(err, agentlet.ErrDenied):
		return err
	case !c.config.ACL.Enabled():
		return fmt.Errorf("%w (no token was sent: see --consul-token-file and --consul-auth-method)", err)
	}
	return fmt.Errorf("%w (grant it in Consul by a policy, a role or a binding rule)", err)
}

// withoutAccessor takes the ID of the session's token out of Consul's message: it is another one after each login.
func withoutAccessor(text string) string {
	const begin, end = "token with AccessorID '", "'"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return text
	}
	return before + "the token" + after
}
