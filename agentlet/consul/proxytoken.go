package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
)

// ensureProxyToken sees to it that the mesh proxy's file holds a token of its own. One that is there is the proxy's
// already, of an earlier process of this pod; another one follows it only if Consul doesn't know it any more, and a
// failure to make that is but logged: the proxy may be in need of it, the agentlet isn't.
func (c *Client) ensureProxyToken(ctx context.Context, bearer string) error {
	acl := &c.config.ACL
	if acl.ProxyAuthMethod == "" {
		return nil
	}
	lent, err := readSecret(acl.ProxyTokenFile)
	if err != nil {
		return c.makeProxyToken(ctx, bearer)
	}
	_, _, err = c.api.ACL().TokenReadSelf((&api.QueryOptions{Token: lent}).WithContext(ctx))
	if err = c.classify("read the mesh proxy's token", err); !errors.Is(err, agentlet.ErrUnknownToken) {
		return nil // it is known, or Consul can't say
	}
	if err := c.makeProxyToken(ctx, bearer); err != nil {
		c.config.Logger.Warn("Consul doesn't know the mesh proxy's token any more, nor makes another one", "error", err)
		return nil
	}
	c.config.Logger.Warn(
		"Consul didn't know the mesh proxy's token any more: there is another one, which the proxy reads when it is started again")
	return nil
}

// makeProxyToken logs the mesh proxy in and writes its token into its file.
func (c *Client) makeProxyToken(ctx context.Context, bearer string) error {
	acl := &c.config.ACL
	meta := maps.Clone(acl.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta["for"] = "mesh proxy"
	op := "log the mesh proxy in with auth method " + acl.ProxyAuthMethod
	token, _, err := c.api.ACL().Login(&api.ACLLoginParams{AuthMethod: acl.ProxyAuthMethod, BearerToken: bearer, Meta: meta},
		(&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return explainLogin(op, "--proxy-auth-method", c.classify(op, err))
	}
	if token.ExpirationTime != nil {
		err = fmt.Errorf("%s: %w: its tokens run out, and no proxy takes another one without a restart: let it have no token TTL",
			op, agentlet.ErrRejected)
	} else {
		c.awaitReplication(ctx, token.SecretID)
		err = writeSecret(acl.ProxyTokenFile, token.SecretID)
	}
	if err != nil {
		return errors.Join(err, c.end(ctx, token.SecretID))
	}
	return nil
}

// Reclaim ends the token that was lent to the mesh proxy, if there is one. It is for the end of the pod: the kubelet
// has ended the proxy before. A proxy that lives on could do nothing without it, and the next process of the pod finds
// it in its file.
func (c *Client) Reclaim(ctx context.Context) error {
	if c.config.ACL.ProxyAuthMethod == "" {
		return nil
	}
	token, err := readSecret(c.config.ACL.ProxyTokenFile)
	if err != nil {
		return nil //nolint:nilerr // nothing was lent
	}
	if err := c.end(ctx, token); err != nil {
		return err
	}
	if err := os.Remove(c.config.ACL.ProxyTokenFile); err != nil {
		return fmt.Errorf("forget the mesh proxy's token: %w", err)
	}
	return nil
}

// end logs a token out; one that Consul doesn't know is as good as ended.
func (c *Client) end(ctx context.Context, token string) error {
	_, err := c.api.ACL().Logout((&api.WriteOptions{Token: token}).WithContext(ctx))
	if err = c.classify("log out", err); errors.Is(err, agentlet.ErrUnknownToken) {
		return nil
	}
	return err
}

// writeSecret writes a file that is whole as soon as it is there.
func writeSecret(file, secret string) error {
	half := file + ".new"
	err := os.WriteFile(half, []byte(secret), 0o600)
	if err == nil {
		err = os.Rename(half, file)
	}
	if err != nil {
		return fmt.Errorf("write the mesh proxy's token: %w", err)
	}
	return nil
}
