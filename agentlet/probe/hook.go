package probe

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/registration"
)

var _ agentlet.Hooks = (*Prober)(nil)

// hookAgent begins as the kubelet's for hooks does.
const hookAgent = "kube-lifecycle/agentlet"

// Call implements agentlet.Hooks. As the kubelet does, it takes any answer for a success, and asks a server that doesn't speak
// TLS without it, and then without the header Authorization. Its errors hold neither an ephemeral port nor anything of an
// answer's body.
func (p *Prober) Call(ctx context.Context, hook registration.PreStop) error {
	request, err := newRequest(ctx, p.address(hook.Host, hook.Port), hook.HTTPGet, hookAgent)
	if err != nil {
		return err
	}
	err = p.send(request)
	if errors.Is(err, http.ErrSchemeMismatch) {
		request = request.Clone(ctx)
		request.URL.Scheme = "http"
		request.Header.Del("Authorization")
		err = p.send(request)
	}
	return agentlet.RootCause(err)
}

// send sends a request, follows redirects to the same host, and reads what there is of an answer, up to a bound.
func (p *Prober) send(request *http.Request) error {
	client := &http.Client{Transport: p.plain, CheckRedirect: stayHere}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)) // it was answered
	return nil
}
