package manifests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Bounds of a download. The largest manifests that projects publish, with all their custom resource definitions, have a few MiB.
const (
	maxDownload     = 32 << 20
	downloadTimeout = 30 * time.Second
	maxRedirects    = 5
)

// isURL reports whether a name is an address, as kubectl decides it.
func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// download reads what is at an address, which is shown as Shown says.
func download(ctx context.Context, address string) (text []byte, shown string, err error) {
	if _, err := url.Parse(address); err != nil {
		return nil, "", errors.New("the URL is not valid") // its own error shows a password
	}
	shown = Shown(address)
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", shown, err)
	}
	client := http.Client{CheckRedirect: mayRedirect}
	response, err := client.Do(request)
	if err != nil {
		if failed := (*url.Error)(nil); errors.As(err, &failed) {
			err = errors.New(shownText(failed.Err.Error(), address)) // without the address; it may have that of a redirect
		}
		return nil, "", fmt.Errorf("read %s: %w", shown, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("read %s: the server answered %s", shown, response.Status)
	}
	text, err = io.ReadAll(io.LimitReader(response.Body, maxDownload+1))
	if err == nil && len(text) > maxDownload {
		err = fmt.Errorf("more than %d MiB: download it, and name the file", maxDownload>>20)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", shown, err)
	}
	return text, shown, nil
}

// mayRedirect lets a redirect change the place, but not from https to anything else: it names what only https can vouch for.
func mayRedirect(to *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL.Scheme
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case to.URL.Scheme != from && to.URL.Scheme != "https":
		return fmt.Errorf("it is redirected from %s to %s, which is not followed", from, to.URL.Scheme)
	}
	return nil
}
