package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// httpGet succeeds on a status from 200 to 399.
func (p *Prober) httpGet(ctx context.Context, address string, action *corev1.HTTPGetAction) error {
	request, err := newRequest(ctx, address, action, userAgent)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: p.plain, CheckRedirect: stayHere}
	if action.Protocol != nil && *action.Protocol == corev1.HTTPProtocolHTTP2 {
		client.Transport = p.h2
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)); err != nil {
		return err
	}
	if response.StatusCode < http.StatusOK || response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	return nil
}

// newRequest is the request of a probe or a hook. agent is its User-Agent, where the action has none of its own.
func newRequest(ctx context.Context, address string, action *corev1.HTTPGetAction, agent string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, place(address, action).String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header = headers(action, agent)
	request.Host = request.Header.Get("Host")
	return request, nil
}

// place is where a probe or a hook goes. A path that is no URL's is taken as it is.
func place(address string, action *corev1.HTTPGetAction) *url.URL {
	u, err := url.Parse(action.Path)
	if err != nil {
		u = &url.URL{Path: action.Path}
	}
	u.Scheme, u.Host, u.User = "http", address, nil
	if action.Scheme == corev1.URISchemeHTTPS {
		u.Scheme = "https"
	}
	return u
}

// headers are the action's own, with the kubelet's where it has none. An empty Accept takes that header out.
func headers(action *corev1.HTTPGetAction, agent string) http.Header {
	h := http.Header{}
	for _, header := range action.HTTPHeaders {
		h.Add(header.Name, header.Value)
	}
	if _, own := h["User-Agent"]; !own {
		h.Set("User-Agent", agent)
	}
	if accept, own := h["Accept"]; !own {
		h.Set("Accept", "*/*")
	} else if strings.Join(accept, "") == "" {
		h.Del("Accept")
	}
	return h
}

// maxRedirects is the kubelet's bound.
const maxRedirects = 10

// stayHere follows redirects to the same host alone. One that leads elsewhere is the answer, and so a success.
func stayHere(request *http.Request, via []*http.Request) error {
	switch {
	case request.URL.Hostname() != via[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(via) >= maxRedirects:
		return errors.New("too many redirects")
	}
	return nil
}
